"""A sequence between two others, from a prior that can fill gaps."""

from collections.abc import Sequence

import torch
from torch import Tensor

from audiovae.errors import ModelError
from audiovae.priors.conditions import Condition
from audiovae.priors.lengthen import MOST_ITEMS, generate, noise_of
from audiovae.priors.prior import Prior


def fill(
    prior: Prior,
    seed: int,
    items: Sequence[int],
    frames: int,
    ends: tuple[Tensor, Tensor],
    temperature: float = 1.0,
    condition: Condition | None = None,
) -> Tensor:
    """Draws what lies between two sequences: [len(items), rows, frames] on the CPU.

    The last window knows frames on both sides: half of it is new, and what is given before and after has about as many
    frames. A longer gap is filled from the left: what the last window does not hold continues the first sequence.

    Args:
        prior: A prior of real latents, in evaluation mode.
        seed: A whole number.
        items: Numbers of the sequences, such as range(8).
        frames: Frames of the gap, of whole chunks if the latents are those of chunks.
        ends: The sequences [rows, n] before and after the gap, of at least a chunk each.
        temperature, condition: See the prior's `sample`.

    Raises:
        ModelError: if the prior cannot fill gaps, or these do not fit.
    """
    unit, context = check_filling(prior)
    before, after = ends
    new = min(frames // unit, max(1, context // 2)) * unit
    left = frames - new
    start = before.expand(len(items), -1, -1)
    if left:
        count = before.shape[1]
        start = generate(prior, seed, items, count + left, temperature, before, condition)
    # As many frames on both sides; what one of them lacks, the other one may have.
    most = context * unit - new
    behind = min(after.shape[1], max(most // unit // 2 * unit, most - start.shape[2]))
    ahead = min(start.shape[2], most - behind)
    # The numbers of the windows of `generate` begin with 0; there are never as many as its frames.
    window = left + 1
    parts = []
    for first in range(0, len(items), MOST_ITEMS):
        own = start[first : first + MOST_ITEMS]
        known = own[:, :, own.shape[2] - ahead :]
        given = torch.cat([known, own.new_zeros(*own.shape[:2], new), after[:, :behind].expand(len(own), -1, -1)], 2)
        mask = torch.ones(len(own), given.shape[2], dtype=torch.bool)
        mask[:, ahead : ahead + new] = False
        drawn = prior.sample(
            noise_of(seed, items[first : first + MOST_ITEMS], window, prior.device),
            given.shape[2],
            temperature,
            given.to(prior.device),
            mask.to(prior.device),
            None if condition is None else condition.part(first, MOST_ITEMS),
        )
        parts.append(drawn[:, :, ahead : ahead + new].cpu())
    return torch.cat([start[:, :, start.shape[2] - left :] if left else start[:, :, :0], torch.cat(parts)], 2)


def check_filling(prior: Prior) -> tuple[int, int]:
    """The frames of a chunk, or 1, and the context in as many; raises ModelError unless the prior can fill gaps."""
    if prior.latents.kind != "real":
        raise ModelError(
            "this prior of codes cannot fill a gap: it knows only what comes before; use a prior of a VAE or an HVAE"
        )
    unit = 1 if prior.latents.fade < 0 else prior.latents.chunk_frames
    context = prior.latents.frames // unit
    if context < 3:
        raise ModelError(
            f"the context of this prior is too short for a gap ({context} units of latents; it needs one before, a new "
            "one and one after); encode the data with longer windows (--seconds) and train a prior on them"
        )
    return unit, context
