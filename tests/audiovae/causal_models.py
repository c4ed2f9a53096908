"""Tiny causal models of every family, shared by the tests of streaming."""

import copy

import torch
from tiny_models import FAMILIES, LEVELED, RATE, noise, settings_of, step_of

import audiovae
from audiovae import Autoencoder

SAMPLES = 4410
KINDS = [*FAMILIES, *LEVELED]


def causal(kind: str, rate: int = RATE) -> Autoencoder:
    """A tiny causal model in evaluation mode whose weights have left their start and whose codebooks are in use."""
    config, family = copy.deepcopy(settings_of(kind)), kind.partition(" ")[0]
    config["trunk"]["causal"] = True
    torch.manual_seed(0)
    model = audiovae.build(family, config, SAMPLES, rate)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(step_of(kind) * torch.randn_like(parameter))
    if family == "vqvae":
        step = model.config.quantizer.start_step
        model.update(model(sounds(8), noise(8)).statistics, step)
    return model.eval()


def sounds(items: int, samples: int = SAMPLES, seed: int = 0) -> torch.Tensor:
    """Noise of falling spectra with changing levels, [items, 1, samples] in [-1, 1]."""
    white = torch.randn(items, 1, samples, generator=torch.Generator().manual_seed(seed))
    smooth = torch.nn.functional.avg_pool1d(white, 5, 1, 2)
    swell = 0.5 + 0.5 * torch.sin(torch.arange(samples) / 997)
    return (0.3 * (0.2 * white + smooth) * swell).clamp(-1, 1)
