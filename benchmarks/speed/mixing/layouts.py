"""Layouts: which chunk of which recording is where in the shards, without any audio."""

from dataclasses import dataclass

import numpy as np

from shards.building.plan import PART_CHUNKS
from shards.splitmix import keyed_order, mix
from shards.tiling import chunk_starts

RATE, SAMPLES, HOP = 22050, 22050, 11025
PER_SHARD = 2048


@dataclass(frozen=True)
class Layout:
    """The chunks of a data set in the order of its shards."""

    source: np.ndarray  # int64 [chunks], recording
    start: np.ndarray  # int64 [chunks], samples
    shards: np.ndarray  # int64 [shards], chunks of each

    def __len__(self) -> int:
        return len(self.source)


def recordings(chunks: int, median_s: float, spread: float, seed: int = 0) -> np.ndarray:
    """Log-normal lengths of recordings in samples, int64 [n], that give about ``chunks`` chunks in total."""
    rng = np.random.default_rng(seed)
    mean_s = median_s * np.exp(spread**2 / 2)
    count = round(chunks / (mean_s * RATE / HOP))
    return np.maximum(SAMPLES, rng.lognormal(np.log(median_s), spread, max(4, count)) * RATE).astype(np.int64)


def sequential(lengths: np.ndarray) -> Layout:
    """One recording after the other, as a script writes them that fills shards in one loop."""
    starts = [chunk_starts(int(length), SAMPLES, HOP) for length in lengths]
    source = np.repeat(np.arange(len(lengths)), [len(row) for row in starts])
    return Layout(source, np.concatenate(starts), shard_sizes(len(source), PER_SHARD))


def scattered(lengths: np.ndarray) -> Layout:
    """The layout of ``python -m shards build``: parts of whole recordings, each shuffled over its shards.

    A test compares this function with a real build.
    """
    chunks = np.array([len(chunk_starts(length, SAMPLES, HOP)) for length in lengths.tolist()])
    rows = keyed_order(len(lengths), 0)  # the builder sorts by hashes of the contents
    found, part, begin = [], 0, 0
    for end in range(1, len(rows) + 1):
        if chunks[rows[begin:end]].sum() >= PART_CHUNKS or end == len(rows):
            here = {row: int(lengths[row]) for row in rows[begin:end].tolist()}
            found += scatter(part, here)
            part, begin = part + 1, end
    source, start = (np.concatenate(column) for column in zip(*found, strict=True))
    return Layout(source, start, np.array([len(row) for row, _ in found]))


def scatter(
    part: int, lengths: dict[int, int], samples: int = SAMPLES, hop: int = HOP, per_shard: int = PER_SHARD
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Source and start of the rows of each shard of a part that has the recordings ``{row: samples}``."""
    starts = {row: chunk_starts(length, samples, hop) for row, length in sorted(lengths.items())}
    source = np.concatenate([np.full(len(here), row) for row, here in starts.items()])
    start = np.concatenate(list(starts.values()))
    shards = max(1, round(len(start) / per_shard))
    return [(source[rows], start[rows]) for rows in np.array_split(keyed_order(len(start), mix(part)), shards)]


def shard_sizes(chunks: int, each: int) -> np.ndarray:
    """Sizes of shards, int64; all but the last are full."""
    return np.diff(np.append(np.arange(0, chunks, each), chunks))
