"""The quality that the rate of a VQ-VAE allows: latents of the same trunk after an ideal code of that rate."""

import math
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import audiovae
from shards import Split
from train.evaluation.measuring.heldout import read_audio, spread
from train.evaluation.measuring.metrics import measure
from train.runs.run_folder import RunDir

CHUNKS = 200
AT_A_TIME = 25


def water_level(variances: Tensor, bits: float) -> float:
    """The distortion D that an ideal code of `bits` leaves in each component whose variance is above D.

    Reverse water-filling: sum of max(0, log2(variance / D) / 2) = bits (Cover and Thomas, "Elements of Information
    Theory", section 10.3.3), solved exactly.

    Args:
        variances: [D], at least 0, of independent Gaussian components.
        bits: Bits for one vector, above 0.
    """
    largest = variances.double().sort(descending=True).values
    largest = largest[largest > 0]
    number = torch.arange(1, len(largest) + 1, dtype=torch.float64)
    levels = ((largest.log2().cumsum(0) - 2 * bits) / number).exp2()
    # With n components in use, the level is below the n-th variance but not below the next one.
    in_use = (levels < largest).nonzero().max()
    return levels[in_use].item()


def through_ideal_code(vectors: Tensor, bits: float, generator: torch.Generator) -> Tensor:
    """Vectors [N, D] after an ideal Gaussian code of `bits` bits per vector.

    This is the forward test channel of rate-distortion theory: along the eigenvectors of the covariance, each component
    is scaled by 1 - D / variance and gets noise.
    """
    mean = vectors.mean(0)
    variances, directions = torch.linalg.eigh(torch.cov((vectors - mean).T))
    variances = variances.clamp_min(1e-12)
    share = 1 - (water_level(variances, bits) / variances).clamp_max(1)
    noise = torch.randn(vectors.shape, generator=generator)
    components = share * ((vectors - mean) @ directions) + (share * (1 - share) * variances).sqrt() * noise
    return components @ directions.T + mean


def bits_per_frame(run: Path) -> float:
    """Bits per frame of the codes of a VQ-VAE run."""
    quantizer = RunDir.open(run).config
    return quantizer["model.quantizer.codebooks"] * math.log2(quantizer["model.quantizer.size"])


@torch.no_grad()
def si_sdr_at_rate(ceiling: Path, bits_per_frame: float) -> float:
    """Held-out SI-SDR in dB of an unquantized model whose latents pass an ideal code: a mean over spread-out chunks.

    The code uses the covariance of the latents, but neither the correlation of frames nor the loudness of passages.
    Codebooks trained together with the trunk can be slightly better.
    """
    run = RunDir.open(ceiling)
    model, split = audiovae.load(ceiling), Split.open(run.config["data.path"], "valid")
    audio = read_audio(split, spread(len(split), CHUNKS), torch.device("cpu"))
    latents = torch.cat([model.encode(part) for part in audio.split(AT_A_TIME)])
    items, _, frames = latents.shape
    vectors = latents.transpose(1, 2).flatten(0, 1)
    coded = through_ideal_code(vectors, bits_per_frame, torch.Generator().manual_seed(0))
    coded = coded.unflatten(0, (items, frames)).transpose(1, 2)
    output = torch.cat([model.decode(part) for part in coded.split(AT_A_TIME)])
    return float(np.nanmean(measure(output, audio, model.rate)["si_sdr"].numpy()))
