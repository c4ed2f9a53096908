"""mosaicml-streaming with samples as arrays of a fixed shape."""

import shutil
from pathlib import Path

import numpy as np
import torch
from streaming import MDSWriter, StreamingDataset
from streaming.base.util import clean_stale_shared_memory
from torch.utils.data import DataLoader

from benchmarks.speed.support.data import SHAPE, all_audio

COLUMNS = {"audio": f"ndarray:int16:{SHAPE.samples}"}


def prepare(shards: Path) -> None:
    """The audio of a data folder in MDS files next to it; does nothing if they exist."""
    folder = _place(shards)
    if (folder / "index.json").exists():
        return
    shutil.rmtree(folder, ignore_errors=True)
    with MDSWriter(out=str(folder), columns=COLUMNS) as writer:
        for rows in all_audio(shards):
            for row in rows:
                writer.write({"audio": np.array(row)})


def mosaicml(folder: Path, batch: int, workers: int):
    """``StreamingDataset(shuffle=True)`` with its default algorithm, in a ``DataLoader``."""
    clean_stale_shared_memory()
    dataset = StreamingDataset(local=str(_place(folder)), shuffle=True, batch_size=batch)
    keep = {"persistent_workers": True} if workers else {}
    batches = DataLoader(dataset, batch_size=batch, num_workers=workers, drop_last=True, collate_fn=_stack, **keep)
    try:
        while True:
            yield from batches
    finally:
        clean_stale_shared_memory()


def _stack(samples: list[dict]) -> torch.Tensor:
    return torch.from_numpy(np.stack([sample["audio"] for sample in samples]))


def _place(shards: Path) -> Path:
    return shards.parent / f"{shards.name}-mosaicml"
