"""A transformer with rotary positions, for sequences of frames [B, T, width]."""

import math

import torch
from torch import Tensor, nn

from audiovae.layers.noise import Noise
from audiovae.priors.settings import TransformerConfig

# Longest period of a rotary position, in frames over two pi (Su et al. 2021).
LONGEST = 10_000.0
# Wave numbers of a time in [0, 1], as in DiT, where times were steps 0 to 1000.
TIME_FEATURES = 256
TIME_SCALE = 1000.0


class Dropout:
    """Dropout whose random numbers come from `Noise`, so that an item drops the same in any micro-batch and process.

    A mask of frames and features is made of one odd number a frame and one a feature: their product modulo 2^32 is
    compared with a threshold. Two elements are independent of each other, and nothing as large as the mask is drawn,
    which each process would have to do for the whole global batch.
    """

    def __init__(self, noise: Noise, rate: float, places: int, frames: int, width: int) -> None:
        """Draws for `places` uses on [B, frames, width]; `rate` is the probability of dropping, in (0, 1)."""
        self.frames = frames
        self.factor = 1 / (1 - rate)
        self.threshold = round(rate * (1 << 32)) - (1 << 31)
        self.numbers = (noise.integers(1 << 32, places, frames + width) - (1 << 31)).to(torch.int32) | 1

    def __call__(self, x: Tensor, place: int) -> Tensor:
        """[B, frames, width] -> the same, with some elements zero and the others larger."""
        own = self.numbers[:, place]
        kept = own[:, : self.frames, None] * own[:, None, self.frames :] >= self.threshold
        return x * kept * self.factor


class Cache:
    """Keys and values of the frames so far, of every layer, for sampling frame by frame.

    Attributes:
        length: Frames so far.
    """

    def __init__(self, layers: int, frames: int) -> None:
        """For at most `frames` frames."""
        self.frames = frames
        self.length = 0
        self._parts: list[tuple[Tensor, Tensor] | None] = [None] * layers

    def extended(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Adds keys and values [B, heads, n, d] of new frames, and returns those of all frames."""
        part = self._parts[layer]
        if part is None:
            shape = (*keys.shape[:2], self.frames, keys.shape[3])
            part = self._parts[layer] = (keys.new_empty(shape), values.new_empty(shape))
        end = self.length + keys.shape[2]
        for whole, new in zip(part, (keys, values), strict=True):
            whole[:, :, self.length : end] = new
        return part[0][:, :, :end], part[1][:, :, :end]


class Attention(nn.Module):
    """Multi-head attention with rotary positions and normalised queries and keys (Dehghani et al. 2023)."""

    def __init__(self, width: int, heads: int, causal: bool) -> None:
        super().__init__()
        self.heads, self.causal = heads, causal
        self.enter = nn.Linear(width, 3 * width, bias=False)
        self.query_norm = nn.LayerNorm(width // heads, bias=False)
        self.key_norm = nn.LayerNorm(width // heads, bias=False)
        self.leave = nn.Linear(width, width)

    def forward(self, x: Tensor, turns: tuple[Tensor, Tensor], layer: int, cache: Cache | None) -> Tensor:
        """[B, T, width] -> [B, T, width]; with a cache, T is 1 unless the cache is empty."""
        query, key, value = self.enter(x).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        query = rotated(self.query_norm(query), turns).to(value.dtype)
        key = rotated(self.key_norm(key), turns).to(value.dtype)
        if cache is not None:
            key, value = cache.extended(layer, key, value)
        # A single new frame sees all frames so far; several only come first.
        causal = self.causal and x.shape[1] > 1
        found = nn.functional.scaled_dot_product_attention(query, key, value, is_causal=causal)
        return self.leave(found.transpose(1, 2).flatten(2))


class Block(nn.Module):
    """Attention and a feed-forward layer, each behind a norm (pre-norm).

    A timed block shifts and scales the norms, and scales what it adds, by a time (adaLN-zero, Peebles and Xie 2023).
    Both kinds add nothing at the start.
    """

    def __init__(self, config: TransformerConfig, causal: bool, timed: bool) -> None:
        super().__init__()
        width, hidden = config.width, config.feed_forward * config.width
        self.norms = nn.ModuleList(norm(width, timed) for _ in range(2))
        self.attention = Attention(width, config.heads, causal)
        self.feed_forward = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))
        self.modulation = zeroed(nn.Linear(width, 6 * width)) if timed else None
        if not timed:  # a timed block begins with gates of zero; both at zero would never move
            zeroed(self.attention.leave)
            zeroed(self.feed_forward[2])

    def forward(
        self,
        x: Tensor,
        turns: tuple[Tensor, Tensor],
        layer: int,
        time: Tensor | None,
        dropout: Dropout | None,
        cache: Cache | None,
    ) -> Tensor:
        """[B, T, width] -> [B, T, width]; `time` is [B, width] for timed blocks."""
        parts: list[Tensor | None] = [None] * 6
        if self.modulation is not None and time is not None:
            parts = list(self.modulation(time).unsqueeze(1).chunk(6, dim=2))
        for i, place in enumerate((2 * layer, 2 * layer + 1)):
            shift, scale, gate = parts[3 * i : 3 * i + 3]
            own = modulated(self.norms[i](x), shift, scale)
            own = self.feed_forward(own) if i else self.attention(own, turns, layer, cache)
            if gate is not None:
                own = own * gate
            x = x + (own if dropout is None else dropout(own, place))
        return x


class Transformer(nn.Module):
    """Blocks and a last norm, [B, T, width] -> [B, T, width]."""

    def __init__(self, config: TransformerConfig, causal: bool, timed: bool) -> None:
        """Builds the blocks.

        Args:
            config: The settings.
            causal: Frames see themselves and earlier ones only.
            timed: The network depends on a time.
        """
        super().__init__()
        self.config = config
        self.blocks = nn.ModuleList(Block(config, causal, timed) for _ in range(config.layers))
        self.norm = norm(config.width, timed)
        self.modulation = zeroed(nn.Linear(config.width, 2 * config.width)) if timed else None

    def dropout(self, noise: Noise, frames: int) -> Dropout | None:
        """The dropout of one training pass over `frames` frames; None if the rate is 0."""
        config = self.config
        if not config.dropout:
            return None
        return Dropout(noise, config.dropout, 2 * config.layers + 1, frames, config.width)

    def cache(self, frames: int) -> Cache:
        """An empty cache for `frames` frames."""
        return Cache(self.config.layers, frames)

    def forward(
        self, x: Tensor, time: Tensor | None = None, dropout: Dropout | None = None, cache: Cache | None = None
    ) -> Tensor:
        """[B, T, width] -> [B, T, width].

        Args:
            x: Frames; with a cache, those after the frames in it: one, or the first ones.
            time: [B, width] from `TimeEmbedding`, if the network is timed.
            dropout: For training.
            cache: Takes keys and values of these frames, and has those of the earlier ones.
        """
        before = 0 if cache is None else cache.length
        size = self.config.width // self.config.heads
        turns = rotary(before, x.shape[1], size, x.device)
        if dropout is not None:
            x = dropout(x, 2 * self.config.layers)
        for layer, block in enumerate(self.blocks):
            x = block(x, turns, layer, time, dropout, cache)
        if cache is not None:
            cache.length += x.shape[1]
        shift = scale = None
        if self.modulation is not None and time is not None:
            shift, scale = self.modulation(time).unsqueeze(1).chunk(2, dim=2)
        return modulated(self.norm(x), shift, scale)


class TimeEmbedding(nn.Module):
    """Times [B] in [0, 1] -> features [B, width], by sinusoids and two layers."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(TIME_FEATURES, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU())

    def forward(self, time: Tensor) -> Tensor:
        """[B] -> [B, width]."""
        exponents = torch.arange(TIME_FEATURES // 2, device=time.device) / (TIME_FEATURES // 2)
        angles = TIME_SCALE * time.float().unsqueeze(1) * (-math.log(LONGEST) * exponents).exp()
        return self.layers(torch.cat([angles.cos(), angles.sin()], 1).to(time.dtype))


def norm(width: int, timed: bool) -> nn.LayerNorm:
    """Layer norm without a shift; also without a scale if a time gives both."""
    return nn.LayerNorm(width, elementwise_affine=not timed, bias=False)


def zeroed(layer: nn.Module) -> nn.Linear:
    """A linear layer with all weights set to zero, so that the network starts without it."""
    assert isinstance(layer, nn.Linear)
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer


def modulated(x: Tensor, shift: Tensor | None, scale: Tensor | None) -> Tensor:
    """x (1 + scale) + shift; x alone without them."""
    return x if shift is None or scale is None else x * (1 + scale) + shift


def rotary(first: int, frames: int, size: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Cosines and sines [frames, size / 2] of the positions from `first` on (Su et al. 2021, "RoFormer")."""
    exponents = torch.arange(size // 2, device=device) / (size // 2)
    positions = torch.arange(first, first + frames, device=device).float()
    angles = positions.unsqueeze(1) * (-math.log(LONGEST) * exponents).exp()
    return angles.cos(), angles.sin()


def rotated(x: Tensor, turns: tuple[Tensor, Tensor]) -> Tensor:
    """[B, heads, T, d], each pair of features (i, i + d / 2) turned by the angle of its position."""
    cosine, sine = turns
    first, second = x.chunk(2, dim=3)
    return torch.cat([first * cosine - second * sine, first * sine + second * cosine], 3)
