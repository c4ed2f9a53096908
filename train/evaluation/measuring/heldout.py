"""Chunks of a split as audio, and a model's mean measures on them."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from audiovae import Autoencoder, Noise
from audiovae.priors.latents import LATENTS
from shards import DataError, Split, by_channel
from shards.reading.windows import windows_of
from train.errors import TrainError
from train.evaluation.measuring.frechet import embed, frechet
from train.evaluation.measuring.metrics import SHARES, means, measure, names_for, sums_and_counts
from train.parallel.engine import Engine

AT_A_TIME = 32
# Among the measures: the mean square of the recordings.
POWER = "power"
# Measures of each of several data sets too.
BY_SET = ("si_sdr", "stft", "mel")
# Channels of stereo with measures of their own. Left and right differ less from both together.
SHOWN = ("mid", "side")
# Among the sums of `measure_share`: for each chunk the embeddings of recording and reconstruction.
EMBEDDINGS = "embeddings"


@dataclass(frozen=True)
class Extra:
    """What `measure_share` measures beside the usual.

    Attributes:
        names: Names of the values of each chunk.
        values: From audio and output [B, A, T] to these values: [B] each, NaN where there is none.
        frechet: Whether to collect what `frechet_of` needs.
    """

    names: tuple[str, ...] = ()
    values: Callable[[Tensor, Tensor], dict[str, Tensor]] = lambda audio, output: {}
    frechet: bool = False


def to_audio(samples: Tensor, device: torch.device, channels: int = 1) -> Tensor:
    """int16 [n, T * channels], interleaved -> float32 [n, channels, T] in [-1, 1) on the device."""
    return by_channel(samples.to(device, non_blocking=True), channels).float().contiguous().div_(32768.0)


def read_audio(split: Split, chunks: np.ndarray, device: torch.device) -> Tensor:
    """Chunks of a split, int64 [n], as audio [n, A, T] on the device; raises DataError for a damaged one."""
    return to_audio(split.read(chunks), device, split.channels)


def misfit(split: Split, model: Autoencoder, whose: str) -> str:
    """How the chunks of a split differ from those that a model takes, in words; empty where they do not.

    `whose` stands before the chunks of the model, such as "but the model was trained on".
    """
    here = split.samples, split.rate, split.channels
    wanted = model.samples, model.rate, model.audio_channels
    return "" if here == wanted else f"chunks of {_in_words(*here)}, {whose} {_in_words(*wanted)}"


def _in_words(samples: int, rate: int, channels: int) -> str:
    return f"{samples} samples at {rate} Hz" + (" in stereo" if channels == 2 else "")


def open_windows(data: str, name: str, samples: int) -> Split:
    """The chunks of a split, or, where they are longer than `samples`, their consecutive windows of that length.

    Raises:
        DataError: when the split cannot be read.
    """
    split = Split.open(data, name)
    return windows_of(split, min(samples, split.samples))


def open_audio(data: str, name: str, samples: int = 0) -> Split:
    """A split of a data set of audio, see `open_windows`; 0 samples are whole chunks.

    Raises:
        TrainError: when there is none.
    """
    try:
        split = open_windows(data, name, samples)
    except DataError as error:
        raise TrainError(f"{error}; if the data has moved, pass --data DIR") from None
    if LATENTS in split.manifest.settings:
        raise TrainError(
            f"{split.where} holds latents of recordings; pass the data set that was encoded with --data DIR"
        )
    return split


def spread(count: int, limit: int) -> np.ndarray:
    """Up to `limit` positions spread evenly over `count` (all positions if limit is 0): int64."""
    taken = min(count, limit) if limit else count
    return np.arange(taken, dtype=np.int64) * count // max(1, taken)


def spread_audio(split: Split, limit: int, device: torch.device) -> Iterator[Tensor]:
    """Yields audio [1, A, T] of up to `limit` evenly spread chunks, the same on every process; skips damaged chunks."""
    for chunk in spread(len(split), limit):
        with suppress(DataError):
            yield read_audio(split, np.array([chunk]), device)


def measure_split(model: Autoencoder, split: Split, limit: int, engine: Engine) -> dict[str, float]:
    """Mean measures over the chunks of a split, the same on every process; each chunk counts once.

    Silent chunks, and chunks whose output is not finite, count only in `silent` and `not_finite`.
    """
    return means(engine.sum(measure_share(model, split, limit, engine)))


@torch.no_grad()
def measure_share(
    model: Autoencoder,
    split: Split,
    limit: int,
    engine: Engine,
    heartbeat: Callable[[], None] = lambda: None,
    extra: Extra | None = None,
) -> dict[str, Tensor]:
    """This process's part of `measure_split`, without the other processes: sums and counts [2] by measure.

    There is one more, `power`: the mean square of the chunks that count in `mse`. Those of `extra` count the same
    chunks. Of several data sets there are those of BY_SET for each: `mel_NAME`. For the Fréchet distance there is
    EMBEDDINGS [chunks, 2, D], 0 in the rows of other processes.
    `heartbeat` is called after each batch as a sign of progress.
    """
    extra = extra or Extra()
    chosen = spread(len(split), limit)
    chunks = chosen[engine.rank :: engine.world]
    zero = torch.zeros(2, device=engine.device)
    sets = {number: one.name for number, one in enumerate(split.sets) if one.chunks} if len(split.sets) > 1 else {}
    of_sets = [f"{name}_{one}" for one in sets.values() for name in BY_SET]
    names = (*names_for(split.channels, SHOWN), POWER, *extra.names, *of_sets)
    total = {name: zero.clone() for name in names}
    embeddings: list[Tensor] = []
    for first in range(0, len(chunks), AT_A_TIME):
        audio = read_audio(split, chunks[first : first + AT_A_TIME], engine.device)
        with engine.autocast():
            output = model.reconstruct(audio)
        found = measure(output, audio, model.rate)
        found[POWER] = torch.where(found["mse"].isnan(), torch.nan, audio.square().mean((1, 2)))
        found |= extra.values(audio, output)
        counted = torch.where((found["silent"] > 0) | found["mse"].isnan(), torch.nan, 0.0)
        found |= {name: value + counted for name, value in found.items() if name not in SHARES}
        if sets:
            here = torch.from_numpy(split.set_of(chunks[first : first + AT_A_TIME])).to(engine.device)
        for number, one in sets.items():
            found |= {f"{name}_{one}": found[name].where(here == number, torch.nan) for name in BY_SET}
        if extra.frechet:
            pair = [embed(sound.float(), model.rate) for sound in (audio, output)]
            embeddings.append(torch.stack(pair, 1) + counted[:, None, None])
        for name, value in sums_and_counts({name: found[name] for name in names}).items():
            total[name] += value
        heartbeat()
    if extra.frechet:
        width = embed(torch.zeros(1, model.audio_channels, model.samples, device=engine.device), model.rate).shape[1]
        table = total[EMBEDDINGS] = torch.zeros(len(chosen), 2, width, device=engine.device)
        if embeddings:
            table[engine.rank :: engine.world] = torch.cat(embeddings)
    return total


def frechet_of(table: Tensor) -> float:
    """The Fréchet distance of recordings and reconstructions from EMBEDDINGS of all processes; NaN without two."""
    pairs = table[table.isfinite().all(2).all(1)].cpu().numpy()
    found = frechet(pairs[:, 0], pairs[:, 1])
    return float("nan") if found is None else found


def noise_at(first: int, audio: Tensor) -> Noise:
    """Reproducible noise for the chunks of a split from position `first` on: audio [n, A, T]."""
    return Noise(0, first, torch.arange(len(audio), device=audio.device), len(audio))
