"""Measures how well readers mix: pairs of chunks of one recording in a batch, and overlapping pairs."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.speed.mixing import orders
from benchmarks.speed.mixing.layouts import SAMPLES, Layout, recordings, scattered, sequential
from benchmarks.speed.support.data import SHAPE
from benchmarks.speed.support.rows import Row, skipped
from shards.reading.order import EpochOrder

BATCH = 256
CHUNKS = 1_000_000
SETS = {  # median length in seconds, spread of its logarithm
    "songs of about 4 minutes": (240, 0.5),
    "speech of about 6 seconds": (6, 0.8),
    "field recordings of about 40 minutes": (2400, 1.0),
}
BUILT, SEQUENTIAL = "built", "sequential"
PERFECT, OURS = "perfect shuffle", "ours"
METHODS: dict[str, Callable[[Layout, int], np.ndarray]] = {
    PERFECT: orders.perfect,
    OURS: orders.ours,
    "webdataset, buffer 1,000": lambda layout, seed: orders.webdataset(layout, seed, 1000),
    "webdataset, buffer 5,000": lambda layout, seed: orders.webdataset(layout, seed, 5000),
    "webdataset, buffer 20,000": lambda layout, seed: orders.webdataset(layout, seed, 20000),
    "litdata": lambda layout, seed: orders.litdata(layout, seed, None),
    "litdata, whole files": lambda layout, seed: orders.litdata(layout, seed, 0),
    "mosaicml py1e": lambda layout, seed: orders.mosaicml(layout, seed, "py1e"),
    "mosaicml py1e, block 2^18": lambda layout, seed: orders.mosaicml(layout, seed, "py1e", block=1 << 18),
    "mosaicml py2s": lambda layout, seed: orders.mosaicml(layout, seed, "py2s", nodes=64),
}
AREAS = ((64, 16), (64, 8), (64, 4), (64, 2), (64, 1), (32, 16), (32, 8), (16, 16))  # lanes, window


@dataclass(frozen=True)
class Mixing:
    """Statistics over the batches of an epoch."""

    pairs: float  # mean number of pairs of chunks of one recording
    pairs_99: float  # 99th percentile
    neighbours: float  # mean number of pairs of chunks that overlap


def measure(folder: Path, quick: bool) -> list[Row]:
    """Compares every method, on the layout of our builder and on sequential recordings, with ours on our layout."""
    rows = []
    for title in [*SETS][:1] if quick else SETS:
        layouts = make_layouts(title, CHUNKS // 20 if quick else CHUNKS)
        ours = mixing(layouts[BUILT], METHODS[OURS](layouts[BUILT], 0))
        for method in METHODS:
            for kind, layout in layouts.items():
                if (method, kind) in ((OURS, BUILT), (PERFECT, SEQUENTIAL)):
                    continue
                name = f"{title}: {method}" + ("" if method == PERFECT else f", {kind} shards")
                unit = "same-recording pairs/batch"
                try:
                    other = mixing(layout, METHODS[method](layout, 0))
                except ModuleNotFoundError as error:
                    rows.append(skipped(name, unit, f"{error.name} is not installed"))
                else:
                    rows.append(Row(name, ours.pairs, other.pairs, other.pairs / ours.pairs, unit))
    return rows


def make_layouts(title: str, chunks: int) -> dict[str, Layout]:
    """One of the ``SETS`` in the layout of our builder and with sequential recordings."""
    lengths = recordings(chunks, *SETS[title])
    return {BUILT: scattered(lengths), SEQUENTIAL: sequential(lengths)}


def mixing(layout: Layout, order: np.ndarray, batch: int = BATCH) -> Mixing:
    """Statistics over the batches that an order, int64 [chunks], makes of a layout."""
    rows = order[: len(order) // batch * batch].reshape(-1, batch)
    keys = np.sort(layout.source[rows] * 2**40 + layout.start[rows], axis=1)
    source = keys >> 40
    first = np.ones(source.shape, bool)
    first[:, 1:] = source[:, 1:] != source[:, :-1]
    begins = np.flatnonzero(first)
    sizes = np.diff(np.append(begins, first.size))  # of the groups of one recording in one batch
    pairs = np.bincount(begins // batch, sizes * (sizes - 1) / 2, len(rows))
    # The last chunk of a recording is shifted back, so it may overlap the two before it.
    near = sum(np.sum(keys[:, lag:] - keys[:, :-lag] < SAMPLES) for lag in (1, 2))
    return Mixing(float(pairs.mean()), float(np.quantile(pairs, 0.99)), float(near / len(rows)))


def study(chunks: int = CHUNKS) -> dict[str, dict[tuple[str, str], Mixing]]:
    """Runs all methods on all layouts; returns them by set. Methods whose library is missing are skipped."""
    found = {}
    for title in SETS:
        here = found[title] = {}
        for kind, layout in make_layouts(title, chunks).items():
            for method, order in METHODS.items():
                try:
                    here[method, kind] = mixing(layout, order(layout, 0))
                except ModuleNotFoundError as error:
                    print(f"{method}: {error.name} is not installed", file=sys.stderr)
            for lanes, window in AREAS:
                order = orders.ours(layout, 0, lanes=lanes, window=window)
                here[f"{OURS}, {lanes} lanes x {window} blocks", kind] = mixing(layout, order)
    return found


def area_bytes(lanes: int, window: int) -> int:
    """Memory in bytes for the blocks of the windows of all lanes."""
    return lanes * window * EpochOrder(1, 0, 0).block * SHAPE.stride
