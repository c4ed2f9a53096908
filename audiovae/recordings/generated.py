"""New recordings from a prior: latents of any length, decoded without seams."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from audiovae.errors import ModelError
from audiovae.inputs import HIGHEST_TEMPERATURE
from audiovae.models.autoencoder import Autoencoder
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
) -> list[Tensor]:
    """Draws recordings: [T] float32 each, in about [-1, 1] at the autoencoder's rate.

    A recording depends on the seed, on its number and on the other arguments; on those drawn with it only by rounding.

    Args:
        prior: A prior in evaluation mode.
        autoencoder: The autoencoder whose latents it models, see `audiovae.load_prior`.
        items: How many recordings, at least 1, or their numbers among those of the seed.
        seconds: Their length, above 0, at most an hour; with `start`, of what follows it.
        temperature: Of real latents, the factor on the deviation of the noise; of codes, the divisor of the
            log-probabilities. 0.05 to 10; lower values give more typical recordings.
        seed: Seed of the random numbers.
        start: A recording [T] in [-1, 1] at the autoencoder's rate to continue; each result begins with what the
            autoencoder makes of it, up to its last whole unit of latents.

    Raises:
        ModelError: if an argument is out of range.
    """
    numbers = range(items) if isinstance(items, int) else items
    if not len(numbers):
        raise ModelError("no recordings to draw: choose 1 or more")
    check_drawing(seconds, temperature)
    frames = Frames(autoencoder)
    check_latents(prior, frames)
    given, gain, whole = None, 1.0, max(1, round(seconds * autoencoder.rate))
    if start is not None:
        audio = check_audio(start, 0.0)
        gain, known = gain_of(audio, autoencoder.level), frames.fitting(len(audio))
        if not known:
            least = frames.samples(frames.grain) / autoencoder.rate
            raise ModelError(f"the recording to continue is shorter than {least:.3g} s, a unit of latents")
        given = sequence_of(autoencoder, audio.float() * gain, frames)[:, :known]
        whole += frames.samples(known)
    sequences = generate(prior, seed, numbers, frames.fitting(whole, up=True), temperature, given)
    return [audio_of(autoencoder, sequence)[:whole] / gain for sequence in sequences]


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
