"""Small models, audio and helpers that the tests of `audiovae` share."""

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import audiovae
from audiovae import Autoencoder, Noise, Output, Statistics
from audiovae.recordings.overlap_add import gain_of, join_chunks, split_chunks
from shards.files.sealing import sealed
from tests import preloaded

ROOT = Path(__file__).parents[2]
SAMPLES, RATE = 2205, 22050
TRUNK = {"strides": [15, 7], "channels": [32, 64], "blocks": 1, "kernel": 3}
CONFIGS = {
    "vae": {"trunk": TRUNK, "latent": 48},
    "hvae": {
        "trunk": TRUNK,
        "level_strides": [3, 7],
        "level_channels": [48, 32],
        "latents": [48, 16, 8],
        "free_nats": [0.0, 10.0, 2.0],
    },
    "vqvae": {
        "trunk": TRUNK,
        "latent": 48,
        "quantizer": {"codebooks": 4, "size": 64, "start_step": 20, "decay": 0.9},
    },
}
FAMILIES = sorted(CONFIGS)
# Each family with levels of the upper bands; `make` and `awake` take these names too.
LEVELS = {"vae": {"bands": 8, "latents": 5}, "hvae": {"bands": 8}, "vqvae": {"bands": 8, "latents": 1, "hold": 3}}
SCALED = ["hvae scaled by levels", "vae scaled by levels"]
LEVELED = [*(f"{family} with levels" for family in FAMILIES), *SCALED]


def settings_of(kind: str) -> dict[str, object]:
    """The settings of one of FAMILIES or LEVELED."""
    family, _, leveled = kind.partition(" ")
    config = CONFIGS[family] | ({"levels": LEVELS[family]} if leveled else {})
    if kind in SCALED:
        config |= {"trunk": TRUNK | {"whiten": True}, "scale_by_levels": True, "representation": {"masking": 0.6}}
    return config


def step_of(kind: str) -> float:
    """How far tests move a model's weights from their start. Scales are exponentials, which magnify rounding."""
    return 0.005 if kind in SCALED else 0.02


def make(family: str, seed: int = 0, **changes: object) -> Autoencoder:
    """A tiny model in training mode; a VQ-VAE's quantizer settings may be changed by name."""
    config, family = settings_of(family), family.partition(" ")[0]
    if family == "vqvae":
        config["quantizer"] = {**config["quantizer"], **changes}
    else:
        config |= changes
    torch.manual_seed(seed)
    return audiovae.build(family, config, SAMPLES, RATE)


def change_config(folder: Path, **changes: object) -> None:
    """Changes a saved model's `config.json` on purpose: with the checksum that belongs to the changed content."""
    about = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(sealed(about | changes)).replace("Infinity", "1e400"))


def awake(family: str, seed: int = 0, **changes: object) -> Autoencoder:
    """A tiny model in training mode whose weights have left their start and whose codebooks are in use."""
    model = make(family, seed, **changes)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(step_of(family) * torch.randn_like(parameter))
    if family.startswith("vqvae"):
        start_codebooks(model, tones(8))
    return model


def start_codebooks(model: Autoencoder, audio: Tensor) -> None:
    step = model.config.quantizer.start_step
    model.update(model(audio, noise(len(audio))).statistics, step)
    assert model.quantizer.quantizing


def noise(items: int, step: int = 0, rows: list[int] | None = None) -> Noise:
    """Noise for some rows (all by default) of a batch of `items`."""
    return Noise(7, step, torch.arange(items) if rows is None else torch.tensor(rows), items)


def plucked(seed: int, samples: int = SAMPLES, rate: int = RATE) -> np.ndarray:
    """A string of falling overtones, a little detuned, float64 [samples] with a peak of 0.8."""
    rng = np.random.default_rng(seed)
    t = np.arange(samples) / rate
    pitch = 110 * 2 ** (rng.integers(0, 24) / 12)
    note = sum(
        np.exp(-t * 3 * k) / k * np.sin(2 * np.pi * pitch * k * (1 + 1e-4 * k * k) * t + rng.uniform(0, 6))
        for k in range(1, 6)
    )
    return 0.8 * note / np.abs(note).max()


def tones(items: int, first_seed: int = 0) -> Tensor:
    """Different plucked strings: float32 [items, 1, SAMPLES]."""
    return torch.from_numpy(np.stack([plucked(first_seed + i) for i in range(items)])).float().unsqueeze(1)


def hard_signals() -> dict[str, Tensor]:
    """Signals that break careless formulas, float32 [1, 1, SAMPLES] each."""
    t = torch.arange(SAMPLES) / RATE
    impulse = torch.zeros(SAMPLES)
    impulse[SAMPLES // 2] = 1.0
    signals = {
        "silence": torch.zeros(SAMPLES),
        "clipping square": torch.sign(torch.sin(2 * torch.pi * 441 * t) + 1e-6),
        "direct current": torch.full((SAMPLES,), 0.7),
        "impulse": impulse,
        "one bit": torch.full((SAMPLES,), 1 / 32768),
    }
    return {name: signal.view(1, 1, -1) for name, signal in signals.items()}


def coloured(items: int, channels: int, slope: float, seed: int = 0) -> Tensor:
    """Noise whose power falls by `slope` nepers from 0 Hz to half the rate, [items, channels, SAMPLES]."""
    white = torch.randn(items, channels, SAMPLES, generator=torch.Generator().manual_seed(seed))
    spectrum = torch.fft.rfft(white)
    return torch.fft.irfft(spectrum * torch.exp(-slope / 2 * torch.linspace(0, 1, spectrum.shape[2])), SAMPLES)


def si_sdr(output: Tensor, target: Tensor) -> Tensor:
    """Scale-invariant signal-to-distortion ratio of each item in dB (Le Roux et al. 2019)."""
    output, target = output.flatten(1), target.flatten(1)
    scaled = (output * target).sum(1, keepdim=True) / target.square().sum(1, keepdim=True) * target
    return 10 * torch.log10(scaled.square().sum(1) / (output - scaled).square().sum(1).clamp_min(1e-20))


def joined(parts: list[Statistics]) -> Statistics:
    """Parts of a global batch, in the order of its rows, as one."""
    return Statistics(
        {name: torch.stack([part.sums[name] for part in parts]).sum(0) for name in parts[0].sums},
        {name: torch.cat([part.items[name] for part in parts]) for name in parts[0].items},
    )


def all_terms(model: Autoencoder, output: Output, target: Tensor) -> dict[str, Tensor]:
    """Reconstruction and model terms, [B] each."""
    return model.distances(output.recon, target) | output.losses


def joined_at_once(model: Autoencoder, audio: Tensor, overlap: float, batch: int) -> Tensor:
    """A recording, [T] or [2, T], reconstructed in batches of chunks that are all joined at the end."""
    fade, gain = int(SAMPLES * overlap), gain_of(audio, "peak")
    chunks, hop = split_chunks(audio * gain, SAMPLES, fade), SAMPLES - fade
    outputs = []
    for first in range(0, len(chunks), batch):
        part = chunks[first : first + batch]
        with torch.no_grad(), model.decoding_at([(first + place) * hop for place in range(len(part))]):
            outputs.append(model.reconstruct(part))
    return join_chunks(torch.cat(outputs), fade)[..., : audio.shape[-1]] / gain


def gradients(model: Autoencoder) -> dict[str, Tensor]:
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def buffers(model: torch.nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.named_buffers()}


def command(*arguments: object) -> subprocess.CompletedProcess:
    """Runs `python -m audiovae` as a person would, but for the time that imports take."""
    process = preloaded.start("audiovae", list(map(str, arguments)), {**os.environ, "OMP_NUM_THREADS": "1"})
    try:
        out, err = process.communicate(timeout=120)
    finally:
        process.kill()
    return subprocess.CompletedProcess(arguments, process.returncode, out, err)
