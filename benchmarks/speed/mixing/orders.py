"""The order of chunks in an epoch of each reader, computed by the reader's own functions without any audio."""

import random
import warnings
from types import SimpleNamespace

import numpy as np

from benchmarks.speed.mixing.layouts import Layout, shard_sizes
from shards.reading.order import EpochOrder

FILE_BYTES, CHUNK_BYTES = 1 << 26, 44100  # litdata and mosaicml-streaming write files of 64 MB


def perfect(layout: Layout, seed: int) -> np.ndarray:
    """A uniformly random permutation."""
    return np.random.default_rng(seed).permutation(len(layout))


def ours(layout: Layout, seed: int, **sizes: int) -> np.ndarray:
    """``EpochOrder``."""
    return EpochOrder(len(layout), seed, 0, **sizes).at(np.arange(len(layout)))


def webdataset(layout: Layout, seed: int, buffer: int) -> np.ndarray:
    """Shuffled shards, then ``.shuffle(buffer)``, which starts to deliver when the buffer is full."""
    from webdataset.filters import _shuffle

    begins = np.cumsum(layout.shards) - layout.shards
    order = np.random.default_rng(seed).permutation(len(begins))
    rows = np.concatenate([np.arange(begins[k], begins[k] + layout.shards[k]) for k in order])
    if not buffer:
        return rows
    stream = _shuffle(iter(rows.tolist()), buffer, initial=buffer, rng=random.Random(seed))
    return np.fromiter(stream, np.int64, len(rows))


def litdata(layout: Layout, seed: int, window: int | None) -> np.ndarray:
    """``StreamingDataset(shuffle=True, item_shuffle_window=window)``: shuffled files, one after the other."""
    from litdata.streaming.item_loader import Interval
    from litdata.streaming.shuffle import FullShuffle
    from litdata.utilities.env import _DistributedEnv

    sizes = shard_sizes(len(layout), FILE_BYTES // CHUNK_BYTES)
    ends = np.cumsum(sizes)
    intervals = [Interval(int(e - n), int(e - n), int(e), int(e)) for n, e in zip(sizes, ends, strict=True)]
    cache = SimpleNamespace(get_chunk_intervals=lambda: intervals, _reader=SimpleNamespace(_config=None))
    shuffle = FullShuffle(cache, seed, drop_last=False, item_window=window)
    files, spans = shuffle.get_chunks_and_intervals_per_workers(_DistributedEnv(1, 0, 1), 1, 1, 1)
    rows = [
        shuffle(np.arange(span[1], span[2]), len(sizes), 1, int(file))
        for file, span in zip(files[0], spans[0], strict=True)
    ]
    return np.concatenate(rows)


def mosaicml(layout: Layout, seed: int, algorithm: str, nodes: int = 1, block: int = 4_000_000) -> np.ndarray:
    """``StreamingDataset(shuffle=True, shuffle_algo=algorithm)`` with one worker; ``nodes`` take turns."""
    from streaming.base.partition import get_partitions
    from streaming.base.shuffle import get_shuffle

    sizes = shard_sizes(len(layout), FILE_BYTES // CHUNK_BYTES)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about files larger than a block
        shuffled = get_shuffle(algorithm, sizes, nodes, seed, 0, block)
    places = get_partitions("orig", len(layout), nodes, 1, 1, 1, 1)
    return shuffled[places[places >= 0]]
