"""Other layers in the trunk of a VAE: snake activations, and attention next to the latents."""

import torch
from torch import Tensor, nn

from audiovae.layers.trunk import ResidualBlock
from audiovae.models.vae import VAE

HEADS = 4
# Frames to each side that a frame attends to, so that long recordings are like chunks: half a second.
REACH = 22


class Snake(nn.Module):
    """x + sin(a x)^2 / a with a learned a for each channel: [B, C, T] -> [B, C, T] (Ziyin et al. 2020)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.frequency = nn.Parameter(torch.ones(channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, T] -> [B, C, T]."""
        return x + torch.sin(self.frequency * x).square() / (self.frequency + 1e-9)


def with_snake(model: VAE) -> VAE:
    """Puts snake activations into all residual blocks of the trunk."""
    for block in [*model.encoder.modules(), *model.decoder.modules()]:
        if isinstance(block, ResidualBlock):
            block.act = Snake(block.wide.in_channels)  # type: ignore[assignment]
    return model


class LocalAttention(nn.Module):
    """x plus attention of each frame to the REACH frames on both sides of it: [B, C, T] -> [B, C, T].

    A learned value for each distance and head is added to the scores (Shaw, Uszkoreit and Vaswani 2018, in the form of
    biases). It begins as the identity.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.enter = nn.Linear(channels, 3 * channels)
        self.leave = nn.Linear(channels, channels)
        self.bias = nn.Parameter(torch.zeros(HEADS, 2 * REACH + 1))
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, T] -> [B, C, T]."""
        frames = torch.arange(x.shape[2], device=x.device)
        apart = frames - frames.unsqueeze(1)
        bias = self.bias[:, apart.clamp(-REACH, REACH) + REACH]
        bias = bias.masked_fill(apart.abs() > REACH, float("-inf")).to(x.dtype)
        own = self.enter(self.norm(x.transpose(1, 2))).unflatten(2, (3, HEADS, -1)).permute(2, 0, 3, 1, 4)
        found = nn.functional.scaled_dot_product_attention(own[0], own[1], own[2], attn_mask=bias)
        return x + self.leave(found.transpose(1, 2).flatten(2)).transpose(1, 2)


def with_attention(model: VAE) -> VAE:
    """Adds attention after the encoder's tower and before the decoder's."""
    width = model.config.trunk.channels[-1]
    last = model.encoder.get_submodule("tower").stages[-1]  # type: ignore[union-attr, index]
    last.add_module("attention", LocalAttention(width))  # type: ignore[union-attr, operator]
    decoder = model.decoder
    assert isinstance(decoder, nn.Sequential)
    decoder[0] = nn.Sequential(decoder[0], LocalAttention(width))
    return model
