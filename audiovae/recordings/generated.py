"""New recordings from a prior: latents of any length, decoded without seams."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from audiovae.errors import ModelError
from audiovae.inputs import HIGHEST_TEMPERATURE
from audiovae.models.autoencoder import Autoencoder
from audiovae.priors.conditions import Condition, make_condition
from audiovae.priors.infilling import check_filling, fill
from audiovae.priors.lengthen import generate
from audiovae.priors.prior import Prior
from audiovae.recordings.overlap_add import check_audio, gain_of
from audiovae.recordings.sequences import Frames, audio_of, sequence_of

LONGEST_S = 3600.0
LOWEST_TEMPERATURE = 0.05


@torch.no_grad()
def generate_recordings(
    prior: Prior,
    autoencoder: Autoencoder,
    items: int | Sequence[int] = 1,
    seconds: float = 10.0,
    temperature: float = 1.0,
    seed: int = 0,
    start: Tensor | np.ndarray | None = None,
    label: str | Sequence[str | None] | None = None,
    guidance: float = 1.0,
    end: Tensor | np.ndarray | None = None,
) -> list[Tensor]:
    """Draws recordings: [T], of stereo [2, T], float32 each, in about [-1, 1] at the autoencoder's rate.

    A recording depends on the seed, on its number and on the other arguments; on those drawn with it only by rounding.

    Args:
        prior: A prior in evaluation mode.
        autoencoder: The autoencoder whose latents it models, see `audiovae.load_prior`.
        items: How many recordings, at least 1, or their numbers among those of the seed.
        seconds: Their length, above 0, at most an hour; with `start`, of what follows it; with `end`, of what lies
            between `start` and `end`, to the nearest unit of latents.
        temperature: Of real latents, the factor on the deviation of the noise; of codes, the divisor of the
            log-probabilities. 0.05 to 10; lower values give more typical recordings.
        seed: Seed of the random numbers.
        start: A recording, [T] or [2, T], in [-1, 1] at the autoencoder's rate to continue; each result begins with
            what the autoencoder makes of it, up to its last whole unit of latents.
        label: What the recordings are to be, one of `prior.latents.labels`, or one for each recording; None for any.
        guidance: How much the label counts, 0 to 20. 1 draws as the prior has learned it; higher values give recordings
            that are more typical of the label, and more alike.
        end: A recording, as `start`, to lead to from `start`; each result ends with what the autoencoder makes of
            it. For priors of real latents.

    Raises:
        ModelError: if an argument is out of range.
    """
    numbers = range(items) if isinstance(items, int) else items
    if not len(numbers):
        raise ModelError("no recordings to draw: choose 1 or more")
    check_drawing(seconds, temperature)
    frames = Frames(autoencoder)
    check_latents(prior, frames)
    condition = make_condition(prior.latents.labels, label, len(numbers), guidance)
    if end is not None:
        if start is None:
            raise ModelError("an end without a start: give both recordings between which to draw")
        return _between(prior, frames, (start, end), numbers, seconds, temperature, seed, condition)
    given, gain, whole = None, 1.0, max(1, round(seconds * autoencoder.rate))
    if start is not None:
        audio = check_audio(autoencoder, start, 0.0)
        gain = gain_of(audio, autoencoder.level)
        given = _beginning(frames, audio * gain)
        whole += frames.samples(given.shape[1])
    sequences = generate(prior, seed, numbers, frames.fitting(whole, up=True), temperature, given, condition)
    return [audio_of(autoencoder, sequence)[..., :whole] / gain for sequence in sequences]


def _beginning(frames: Frames, audio: Tensor) -> Tensor:
    """The latents [rows, n] of a recording at the level of training, without the last unit if it is not whole."""
    if not (known := frames.fitting(audio.shape[-1])):
        least = frames.samples(frames.grain) / frames.model.rate
        raise ModelError(f"the recording to continue is shorter than {least:.3g} s, a unit of latents")
    return sequence_of(frames.model, audio.float(), frames)[:, :known]


def _between(
    prior: Prior,
    frames: Frames,
    ends: tuple[Tensor | np.ndarray, Tensor | np.ndarray],
    numbers: Sequence[int],
    seconds: float,
    temperature: float,
    seed: int,
    condition: Condition | None,
) -> list[Tensor]:
    """Both recordings with new sound between them, see `generate_recordings`."""
    check_filling(prior)
    start, end = (check_audio(frames.model, one, 0.0).detach().cpu().float() for one in ends)
    # One gain for both, which keeps how loud they are beside each other.
    gain = gain_of(torch.cat([start, end], dim=-1), frames.model.level)
    before = _beginning(frames, start * gain)
    after = sequence_of(frames.model, end * gain, frames)
    step = frames.samples(2 * frames.grain) - frames.samples(frames.grain)
    gap = frames.grain * max(1, round(seconds * frames.model.rate / step))
    drawn = fill(prior, seed, numbers, gap, (before, after), temperature, condition)
    whole = (before.shape[1] + gap) // frames.grain * step + end.shape[-1]
    return [audio_of(frames.model, torch.cat([before, one, after], 1))[..., :whole] / gain for one in drawn]


def check_latents(prior: Prior, frames: Frames) -> None:
    """Raises ModelError unless a prior, whose folder may be a stranger's, has latents like those of the autoencoder."""
    model, about = frames.model, prior.latents
    own = {
        "kind": "codes" if model.code_size else "real",
        "rows": frames.rows,
        "size": model.code_size,
        "stride": frames.stride,
        "rate": model.rate,
        "fade": frames.fade,
        "chunk_frames": frames.chunk,
    }
    for name, value in own.items():
        if (found := getattr(about, name)) != value:
            raise ModelError(
                f"the prior describes other latents than those of the autoencoder: {name} is {found}, and {value} of "
                "the autoencoder; encode the recordings again and train a prior on them"
            )


def check_drawing(seconds: float, temperature: float) -> None:
    """Raises ModelError if the length or the temperature of a recording to draw is out of range."""
    if not 0 < seconds <= LONGEST_S:  # NaN is in no range
        raise ModelError(f"seconds is {seconds}: choose more than 0, at most {LONGEST_S:g}")
    if not LOWEST_TEMPERATURE <= temperature <= HIGHEST_TEMPERATURE:
        raise ModelError(f"temperature is {temperature}: choose {LOWEST_TEMPERATURE:g} to {HIGHEST_TEMPERATURE:g}")
