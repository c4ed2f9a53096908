"""litdata with samples as raw blocks, its fastest format for chunks of equal length."""

import shutil
from pathlib import Path

import numpy as np
import torch
from litdata.streaming import Cache, StreamingDataLoader, StreamingDataset
from litdata.streaming.item_loader import PyTreeLoader, TokensLoader

from benchmarks.speed.support.data import SHAPE, all_audio

FILE_BYTES = "64MB"


def prepare(shards: Path, formats: tuple[str, ...] = ("tokens", "arrays")) -> None:
    """The audio of a data folder in litdata's formats next to it; does nothing if they exist."""
    for form in formats:
        folder = _place(shards, form)
        if (folder / "index.json").exists():
            continue
        shutil.rmtree(folder, ignore_errors=True)
        loader = TokensLoader(block_size=SHAPE.samples) if form == "tokens" else None
        cache = Cache(str(folder), chunk_bytes=FILE_BYTES, item_loader=loader)
        index = 0
        for rows in all_audio(shards):
            for row in rows:
                cache[index] = torch.from_numpy(np.array(row)) if form == "tokens" else np.array(row)
                index += 1
        cache.done()
        cache.merge()


def litdata(folder: Path, batch: int, workers: int, form: str = "tokens", loader: bool = True):
    """``StreamingDataset(shuffle=True)``; without ``loader`` its samples are copied into one reused batch."""
    item_loader = TokensLoader(block_size=SHAPE.samples) if form == "tokens" else PyTreeLoader()
    dataset = StreamingDataset(str(_place(folder, form)), item_loader=item_loader, shuffle=True, seed=0, drop_last=True)
    if loader:
        keep = {"persistent_workers": True} if workers else {}
        batches = StreamingDataLoader(dataset, batch_size=batch, num_workers=workers, drop_last=True, **keep)
        while True:
            yield from batches
    out = np.empty((batch, SHAPE.samples), np.int16)
    row = 0
    while True:
        for item in dataset:
            out[row] = item
            row += 1
            if row == batch:
                yield out
                row = 0


def _place(shards: Path, form: str) -> Path:
    return shards.parent / f"{shards.name}-litdata-{form}"
