"""The quantizers of vector-quantize-pytorch (github.com/lucidrains) in this project's VQ-VAE."""

from typing import Literal

import torch
from torch import Tensor, nn
from vector_quantize_pytorch import ResidualVQ

from audiovae.layers.noise import Noise
from audiovae.models.vqvae import VQVAE
from audiovae.quantizing.quantizer import Quantized
from audiovae.results import Statistics

TUNED = {
    "kmeans_init": True,
    "kmeans_iters": 10,
    "threshold_ema_dead_code": 2,
    "codebook_dim": 8,
    "use_cosine_sim": True,
}


class RivalQuantizer(nn.Module):
    """`ResidualVQ` with the interface of `ResidualQuantizer`.

    It updates its averages in every forward pass in training, which is exact only on one process and without
    micro-batches. One codebook is a stack of one, which computes the same as `VectorQuantize`.
    """

    def __init__(self, codebooks: int, size: int, latent: int, kind: Literal["default", "tuned"]) -> None:
        super().__init__()
        options = TUNED if kind == "tuned" else {}
        self.inner = ResidualVQ(dim=latent, num_quantizers=codebooks, codebook_size=size, **options)
        self.register_buffer("counts", torch.zeros(codebooks, size))
        self.quantizing = True

    def forward(self, latents: Tensor, noise: Noise | None = None) -> Quantized:
        """[B, D, T] -> values [B, D, T], codes [B, Q, T]; `commitment` is the mean of the batch for each item."""
        with torch.autocast(latents.device.type, enabled=False):
            values, codes, losses = self.inner(latents.float().transpose(1, 2))
        codes = codes.permute(0, 2, 1)
        zero = latents.new_zeros(len(latents))
        shares = torch.stack([torch.bincount(c.flatten(), minlength=self.counts.shape[1]) for c in codes.unbind(1)])
        if self.training:
            self.counts.mul_(0.99).add_(0.01 * shares)
        share = self.counts / self.counts.sum(1, keepdim=True).clamp_min(1e-9)
        metrics = {"perplexity": torch.exp(-(share * share.clamp_min(1e-10).log()).sum(1)).mean()}
        terms = {"commitment": zero + losses.mean(), "anchor": zero, "diversity": zero}
        return Quantized(values.transpose(1, 2), codes, terms, metrics, Statistics())

    def encode(self, latents: Tensor) -> Tensor:
        """[B, D, T] -> codes [B, Q, T] int64."""
        return self(latents).codes

    def decode(self, codes: Tensor) -> Tensor:
        """[B, Q, T] int64 -> [B, D, T]."""
        return self.inner.get_output_from_indices(codes.permute(0, 2, 1)).transpose(1, 2)

    def blend(self, first: Tensor, second: Tensor, weight: float) -> Tensor:
        """Codes [B, Q, T] of the interpolated values of two codes."""
        return self.encode(torch.lerp(self.decode(first), self.decode(second), weight))

    def update(self, statistics: Statistics, step: int) -> None:
        """Does nothing, because the forward pass has updated the averages."""


def with_rival_quantizer(model: VQVAE, kind: Literal["default", "tuned"]) -> VQVAE:
    """Replaces the quantizer of a model; returns the model."""
    config = model.config.quantizer
    model.quantizer = RivalQuantizer(config.codebooks, config.size, model.config.latent, kind)
    return model
