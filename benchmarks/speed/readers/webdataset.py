"""webdataset pipelines over our shards, which are ordinary tar files."""

import io
import warnings
from functools import partial
from pathlib import Path

import numpy as np
import soundfile
import torch
import webdataset as wds

from benchmarks.speed.support.data import SHAPE
from shards import Manifest
from shards.chunk import WAV_HEADER

BUFFER = 1000


def webdataset_standard(folder: Path, batch: int, workers: int, dtype: str = "int16"):
    """Shuffled shards, a shuffle buffer, WAV decoding by soundfile, the library's own batching."""
    dataset = _shuffled(folder).map(partial(_decode, dtype=dtype)).batched(batch, partial=False)
    return _deliver(dataset, workers, lambda item: item[0])


def webdataset_tuned(folder: Path, batch: int, workers: int):
    """The same, but with samples read from their fixed place in the WAV, and a single copy per batch."""
    dataset = _shuffled(folder).map(_cut).batched(batch, collation_fn=_stack, partial=False)
    return _deliver(dataset, workers, lambda item: item)


def _shuffled(folder: Path) -> wds.WebDataset:
    urls = [str(folder / shard.file) for shard in Manifest.load(folder).splits["train"]]
    return wds.WebDataset(urls, shardshuffle=len(urls), seed=0).repeat().shuffle(BUFFER, initial=BUFFER)


def _decode(sample: dict, dtype: str) -> tuple[np.ndarray]:
    return (soundfile.read(io.BytesIO(sample["wav"]), dtype=dtype)[0],)


def _cut(sample: dict) -> np.ndarray:
    return np.frombuffer(sample["wav"], np.int16, SHAPE.samples, WAV_HEADER)


def _stack(rows: list[np.ndarray]) -> torch.Tensor:
    out = torch.empty(len(rows), SHAPE.samples, dtype=torch.int16)
    np.stack(rows, out=out.numpy())
    return out


def _deliver(dataset: wds.WebDataset, workers: int, pick):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for item in wds.WebLoader(dataset, batch_size=None, num_workers=workers):
            yield pick(item)
