"""Data sets of random audio, written as real records without decoding."""

import os
import shutil
from pathlib import Path

import numpy as np
import xxhash

from shards.chunk import END_OF_TAR, ChunkFormat
from shards.errors import DataError
from shards.manifest import FILE_NAME, Level, Manifest, Shard, Source

SHAPE = ChunkFormat()
PER_SHARD = 2048  # at most; a set has at least four shards, so that workers can share it
POOL = 2048  # distinct chunks; a larger set repeats their audio under other names
AT_ONCE = 256


def make_shards(folder: Path, chunks: int, channels: int = 1) -> Path:
    """A data folder whose split ``train`` has `chunks` chunks; it is made if it does not exist.

    Stereo chunks have half as many samples in each channel: as many bytes.
    """
    shape = ChunkFormat(SHAPE.rate, SHAPE.samples // channels, channels)
    if (folder / FILE_NAME).exists() and Manifest.load(folder).chunks("train") == chunks:
        return folder
    check_room(folder, chunks * SHAPE.stride)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    audio = random_audio(min(POOL, chunks))
    shards, each = [], min(PER_SHARD, -(-chunks // 4))
    for k, first in enumerate(range(0, chunks, each)):
        count = min(each, chunks - first)
        checksum = xxhash.xxh3_128()
        name = f"train-00000-{k:03d}.tar"
        with open(folder / name, "wb") as file:
            for begin in range(first, first + count, AT_ONCE):
                number = np.arange(begin, min(begin + AT_ONCE, first + count))
                records = shape.records(audio[number % len(audio)], np.zeros_like(number), number * 11025)
                checksum.update(records.data)
                file.write(records.data)
            checksum.update(END_OF_TAR)
            file.write(END_OF_TAR)
            file.flush()
            os.fsync(file.fileno())  # only clean pages can be dropped from the page cache
        shards.append(Shard(name, count, shape.shard_bytes(count), checksum.hexdigest()))
    save_manifest(folder, shards, shape)
    return folder


def save_manifest(folder: Path, shards: list[Shard], shape: ChunkFormat = SHAPE) -> None:
    """Writes the manifest of a single recording in the split ``train``."""
    chunks = sum(shard.chunks for shard in shards)
    seconds = chunks * 0.5
    source = Source(
        path="noise.wav",
        fingerprint="",
        split="train",
        chunks=chunks,
        silent_chunks=0,
        left_out=0,
        duration_s=seconds,
        rate=shape.rate,
        channels=shape.channels,
        gain_db=0.0,
        peak=0.1,
        rms=0.05,
        silent=False,
        note="",
    )
    level = Level.of([source])
    rows: tuple[dict, dict, list] = {"train": shards}, {"train": level}, [source]
    Manifest(shape.rate, shape.samples, 11025, "none", {}, *rows, channels=shape.channels).save(folder)


def random_audio(chunks: int) -> np.ndarray:
    """Noise, int16 [chunks, samples]."""
    return np.random.default_rng(0).integers(-3000, 3000, (chunks, SHAPE.samples), np.int16)


def all_audio(folder: Path):
    """Yields the audio of a data folder shard by shard: int16 [n, samples]."""
    for shard in Manifest.load(folder).splits["train"]:
        rows = np.memmap(folder / shard.file, np.uint8, "r", shape=(shard.chunks, SHAPE.stride))
        yield rows.view(np.int16)[:, 278 : 278 + SHAPE.samples]


def array_path(shards: Path) -> Path:
    """The file of ``make_array``."""
    return shards.parent / f"{shards.name}-array.bin"


def make_array(shards: Path) -> None:
    """Writes the audio of a data folder as one raw array, int16 [chunks, samples], unless the file exists."""
    path = array_path(shards)
    if path.exists() and path.stat().st_size == Manifest.load(shards).chunks("train") * 2 * SHAPE.samples:
        return
    with open(path, "wb") as file:
        for rows in all_audio(shards):
            for begin in range(0, len(rows), AT_ONCE):
                file.write(np.ascontiguousarray(rows[begin : begin + AT_ONCE]).data)


def drop_caches(folder: Path) -> None:
    """Drops the files of a folder from the page cache; they have been synced to the disk."""
    for path in folder.iterdir():
        handle = os.open(path, os.O_RDONLY)
        try:
            os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(handle)


def check_room(folder: Path, needed: int, margin: int = 1 << 30) -> None:
    """Raises DataError unless the disk of a folder has `needed` bytes and a margin free."""
    here = folder
    while not here.exists():
        here = here.parent
    free = shutil.disk_usage(here).free
    if free < needed + margin:
        raise DataError(f"{here} has {free >> 20} MiB free, this needs {needed + margin >> 20}: pass another --folder")
