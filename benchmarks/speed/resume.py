"""The time to the first batch after resuming near the end of a large epoch, compared with a fresh start."""

import os
import time
from pathlib import Path
from statistics import median

import numpy as np

from benchmarks.speed.support.data import PER_SHARD, SHAPE, check_room, random_audio, save_manifest
from benchmarks.speed.support.rows import Row
from benchmarks.speed.support.trial import in_new_process
from shards import BatchStream, Cursor, EpochOrder, Split
from shards.manifest import FILE_NAME, Shard

CHUNKS = 10_000_000
SEED = 0


def measure(folder: Path, quick: bool) -> list[Row]:
    """Uses a sparse set with records only where the two starts read; the rest of the epoch is never read."""
    chunks, batch = (4000, 64) if quick else (CHUNKS, 256)
    late = Cursor(0, chunks * 9 // 10 // batch * batch)
    shards = _make_sparse(folder / f"sparse-{chunks}", chunks, (Cursor(), late))
    seconds: dict[Cursor, list[float]] = {Cursor(): [], late: []}
    for _ in range(1 if quick else 15):
        for cursor, found in seconds.items():
            found.append(in_new_process(_first_batch, shards, batch, cursor))
    fresh, resumed = (median(found) for found in seconds.values())
    spread = np.subtract(*np.percentile(seconds[Cursor()], (75, 25)))
    return [
        Row(
            f"first batch of {chunks:,} chunks at 90 % of the epoch, compared with a fresh start",
            resumed,
            fresh,
            fresh / resumed,
            "s",
            0.9,
            note=f"interquartile range of the fresh start {spread:.3f} s",
        )
    ]


def _make_sparse(folder: Path, chunks: int, cursors: tuple[Cursor, ...]) -> Path:
    """Sparse shards with valid records in the blocks that the first windows after each cursor need."""
    if (folder / FILE_NAME).exists():
        return folder
    order = EpochOrder(chunks, SEED, 0)
    blocks = set()
    for cursor in cursors:
        for window in order.windows(cursor.consumed):
            if window.first > cursor.consumed + 4096:
                break
            blocks.update(window.blocks.tolist())
    check_room(folder, len(blocks) * order.block * SHAPE.stride)
    folder.mkdir(parents=True, exist_ok=True)
    shards = []
    for k, first in enumerate(range(0, chunks, PER_SHARD)):
        count = min(PER_SHARD, chunks - first)
        name, size = f"train-00000-{k:05d}.tar", SHAPE.shard_bytes(count)
        with open(folder / name, "wb") as file:
            file.truncate(size)
        shards.append(Shard(name, count, size, "0" * 32))
    audio = random_audio(order.block)
    records = SHAPE.records(audio, np.zeros(len(audio)), np.arange(len(audio)) * 11025)
    for block in sorted(blocks):
        shard, row = divmod(block * order.block, PER_SHARD)  # a block is within one shard
        with open(folder / shards[shard].file, "r+b") as file:
            file.seek(row * SHAPE.stride)
            file.write(records[: shards[shard].chunks - row].data)
    os.sync()
    save_manifest(folder, shards)
    return folder


def _first_batch(folder: Path, batch_size: int, cursor: Cursor) -> float:
    """Seconds from opening the data to the first batch."""
    begin = time.perf_counter()
    with BatchStream(Split.open(folder, "train"), batch_size, SEED, cursor=cursor) as stream:
        batch = next(stream)
        seconds = time.perf_counter() - begin
        assert batch.cursor == cursor
        assert not stream.damage()
    return seconds
