"""Our reader, and the upper bounds that it is compared with."""

import mmap
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch

from benchmarks.speed.support.data import SHAPE, array_path
from shards import BatchStream, EpochOrder, Manifest, Split
from shards.mixing.mixture import MixedSet, Mixture, whole_shares
from shards.mixing.places import join_places
from shards.reading.sources.local import LocalRecords
from shards.reading.sources.memory import allocate

BLOCK = 64  # records, 2.9 MB
EPOCHS = 4  # epochs whose order is computed in advance


class Unshuffled(EpochOrder):
    """An order that is the identity."""

    def __init__(self, count: int, seed: int, epoch: int):
        super().__init__(count, seed, epoch, lanes=1)

    def at(self, positions: np.ndarray) -> np.ndarray:
        """The positions themselves."""
        return np.asarray(positions, np.int64)

    def _block_numbers(self, runs: np.ndarray) -> np.ndarray:
        return np.asarray(runs, np.int64)


def ours(folder: Path, batch: int, memory: int | None = None, shuffled: bool = True):
    """``BatchStream``."""
    order = EpochOrder if shuffled else Unshuffled
    with BatchStream(Split.open(folder, "train"), batch, seed=0, memory=memory, order=order) as stream:
        for item in stream:
            yield item.audio.numpy()


def ours_mixed(folder: Path, batch: int, others: list[Path], memory: int | None = None):
    """``BatchStream`` over several data sets, each with a share that is its size."""
    split = Split.open(join_places([str(one) for one in (folder, *others)]), "train")
    counts, names = [one.chunks for one in split.sets], [one.name for one in split.sets]
    rows = zip(split.sets, whole_shares([None] * len(counts), counts, names), strict=True)
    mixture = Mixture(tuple(MixedSet(one.fingerprint, k, parts) for k, (one, parts) in enumerate(rows)))
    with BatchStream(split, batch, seed=0, memory=memory, mixture=mixture) as stream:
        for item in stream:
            yield item.audio.numpy()


def gather(folder: Path, batch: int, threads: int):
    """``torch.index_select`` from one mapped array, int16 [chunks, samples], in an order computed in advance."""
    torch.set_num_threads(threads)
    path = array_path(folder)
    size = path.stat().st_size // 2
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as area:
        area.madvise(22)  # MADV_POPULATE_READ; the pages stay in the kernel's cache
    array = torch.from_file(str(path), shared=False, size=size, dtype=torch.int16).view(-1, SHAPE.samples)
    array[:, ::2048].sum()  # maps every page
    count = len(array) // batch * batch
    epochs = [torch.from_numpy(EpochOrder(len(array), 0, k).at(np.arange(count))) for k in range(EPOCHS)]
    out = torch.empty(batch, SHAPE.samples, dtype=torch.int16)
    while True:
        for order in epochs:
            for rows in order.split(batch):
                yield torch.index_select(array, 0, rows, out=out).numpy()


def direct_blocks(folder: Path, batch: int, threads: int = 4):
    """Random whole blocks read with O_DIRECT and delivered as [64, samples], for any batch size."""
    rows = Manifest.load(folder).splits["train"]
    records = LocalRecords(folder, rows, SHAPE)
    count = sum(row.chunks for row in rows) // BLOCK
    rng = np.random.default_rng(0)
    buffers = deque(allocate(2 * threads * BLOCK * SHAPE.stride).reshape(2 * threads, BLOCK, SHAPE.stride))

    def read(block: int, out: np.ndarray) -> np.ndarray:
        records.read(block * BLOCK, out)
        return out

    with ThreadPoolExecutor(threads) as pool:
        waiting = deque()
        while True:
            for block in rng.permutation(count).tolist():
                if not buffers:
                    done = waiting.popleft().result()
                    yield done.view(np.int16)[:, 278 : 278 + SHAPE.samples]
                    buffers.append(done)
                waiting.append(pool.submit(read, block, buffers.popleft()))
