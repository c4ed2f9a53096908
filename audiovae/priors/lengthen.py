"""Sequences of any length from a prior: windows that each continue the last frames of the one before."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from audiovae.errors import ModelError
from audiovae.layers.noise import MIXERS, NoiseOfItems
from audiovae.priors.conditions import Condition
from audiovae.priors.prior import Prior

# Sequences that are drawn at once, for a bounded memory.
MOST_ITEMS = 16
# Odd multipliers keep neighbouring seeds, items and windows apart; a generator takes 63 bits.
MULTIPLIERS = (0x9E3779B97F4A7C15, 0xD1B54A32D192ED03, 0x8CB92BA72F3D8DD7)


def noise_of(seed: int, items: Sequence[int], window: int, device: torch.device) -> NoiseOfItems:
    """The random numbers of a window of these items, a function of (seed, item, window)."""
    seeds = [mixed(seed, item, window) for item in items]
    return NoiseOfItems(seeds, torch.arange(len(items), device=device), len(items))


def mixed(seed: int, item: int, window: int) -> int:
    """A seed of 63 bits from three whole numbers."""
    value = sum(number * factor for number, factor in zip((seed, item, window), MULTIPLIERS, strict=True))
    for shift, factor in MIXERS:
        value %= 1 << 64
        value = (value ^ (value >> shift)) * factor
    return value % (1 << 63)


def generate(
    prior: Prior,
    seed: int,
    items: Sequence[int],
    frames: int,
    temperature: float = 1.0,
    given: Tensor | None = None,
    condition: Condition | None = None,
    **options: Any,
) -> Tensor:
    """Draws sequences of any length: [len(items), rows, frames] on the CPU.

    The first window is as long as the prior's context. Each further one is given the second half of the window before,
    in whole chunks if the latents are those of chunks. The random numbers of a sequence are a function of the seed, its
    number and the window. So a sequence is the same but for rounding whichever others are drawn with it, and a longer
    one begins as a shorter one does.

    Args:
        prior: The prior, in evaluation mode.
        seed: A whole number.
        items: Numbers of the sequences, such as range(8).
        frames: Frames of each, with those that are given.
        temperature: See `Prior.sample`.
        given: [rows, n] or [len(items), rows, n]: how the sequences begin; these frames stay exactly as they are.
        condition: The labels of the sequences, see `make_condition`.
        options: Further arguments of the prior's `sample`.

    Raises:
        ModelError: if these do not fit.
    """
    unit = 1 if prior.latents.fade < 0 else prior.latents.chunk_frames
    start = _beginning(prior, len(items), frames, given, unit)
    keep = prior.latents.frames // 2 // unit * unit
    if frames > prior.latents.frames and not keep:
        raise ModelError(
            f"{frames} frames: the context of this prior is a single chunk of {unit}, which it cannot continue; encode "
            "the data with longer windows (--seconds) and train a prior on them"
        )
    parts = []
    for first in range(0, len(items), MOST_ITEMS):
        numbers = items[first : first + MOST_ITEMS]
        own = start[first : first + MOST_ITEMS].to(prior.device)
        if condition is not None:
            options["condition"] = condition.part(first, MOST_ITEMS)
        window = 0
        while own.shape[2] < frames:
            noise = noise_of(seed, numbers, window, prior.device)
            left = frames - own.shape[2]
            own = torch.cat([own, _continued(prior, noise, own[:, :, -keep:], left, temperature, options)], 2)
            window += 1
        parts.append(own[:, :, :frames].cpu())
    return torch.cat(parts)


def _beginning(prior: Prior, items: int, frames: int, given: Tensor | None, unit: int) -> Tensor:
    """The given frames as [items, rows, n]; n is 0 where nothing is given."""
    if items < 1 or frames < 1:
        raise ModelError(f"{items} sequences of {frames} frames: at least one of each")
    kind, rows = prior.example_target(1).dtype, prior.latents.rows
    if given is None:
        return torch.zeros(items, rows, 0, dtype=kind)
    if given.dim() == 2:
        given = given.expand(items, -1, -1)
    if given.dim() != 3 or given.shape[:2] != (items, rows) or given.shape[2] >= frames:
        raise ModelError(
            f"a beginning of shape {list(given.shape)}: expected [{rows}, fewer than {frames}] or "
            f"[{items}, {rows}, fewer than {frames}]"
        )
    for what, count in (("the beginning has", given.shape[2]), ("the sequence has", frames)):
        if count % unit:
            raise ModelError(f"{what} {count} frames: choose a multiple of {unit}, the frames of a chunk")
    return given.to(kind)


def _continued(
    prior: Prior, noise: NoiseOfItems, given: Tensor, frames: int, temperature: float, options: dict[str, Any]
) -> Tensor:
    """The frames of a window after the given ones, on the prior's device."""
    count = given.shape[2]
    # Frames that nobody wants are left out unless others depend on them.
    length = min(prior.latents.frames, count + frames + prior.ahead)
    drawn = prior.sample(noise, length, temperature, given if count else None, **options)
    return drawn[:, :, count:]
