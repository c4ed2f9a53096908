"""The reader from the page cache to the device, and whether its fences keep batches whole there."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from benchmarks.gpu.data import noise
from benchmarks.gpu.job import Job
from benchmarks.gpu.rows import Notes
from benchmarks.gpu.trainer import LEAST_STEPS, Timing, Trainer, made_batch, make_engine, repeated, settings, wait
from shards import Batch, BatchStream, Split

FAMILY = "vae"
BATCH, QUICK_BATCH = 512, 16
CHECKED, QUICK_CHECKED = 60, 8  # batches whose content is compared
BUSY_SIZE = 8192  # of matrix products that keep the device busy while batches queue up behind them
BUSY_PRODUCTS = 8


class Forgetful(dict):
    """A dictionary that keeps nothing."""

    def __setitem__(self, key: object, value: object) -> None:
        """Forgets the value."""


class Unfenced(BatchStream):
    """The reader without its fences: it shows that the comparison can fail."""

    def __next__(self) -> Batch:
        self._fences = Forgetful()
        return super().__next__()


def measure(job: Job, notes: Notes) -> None:
    """Adds speeds and the comparison."""
    shards = noise(job)
    split = Split.open(shards, "train")
    device = make_engine("bf16").device
    size = QUICK_BATCH if job.quick else BATCH
    with notes.trying("ring to device"):
        with _stream(split, size, device) as stream:
            rate = _deliver(job, stream, device) * size
        notes.add("ring to device, alone", rate, "chunks/s", note=f"batches of {size}, after the first epoch")
    with notes.trying("under training"):
        _under_training(job, notes, shards, split)
    count = QUICK_CHECKED if job.quick else CHECKED
    with notes.trying("fences"):
        wrong = wrong_batches(_stream(split, size, device), split, device, count)
        notes.add("batches that arrive changed", wrong, f"of {count}", at_most=0, note="by hashes on the device")
    if device.type != "cuda":
        return  # copies to a CPU are done at once, so there is nothing to guard
    with notes.trying("without fences"):
        wrong = wrong_batches(Unfenced(split, size, 0, pin_memory=True), split, device, count)
        notes.add("the same without fences", wrong, f"of {count}", note="above 0: the comparison can fail")


def _stream(split: Split, size: int, device: torch.device) -> BatchStream:
    return BatchStream(split, size, 0, pin_memory=device.type == "cuda")


def _deliver(job: Job, stream: BatchStream, device: torch.device) -> float:
    """Batches a second that reach the device, in the second epoch: the first one checks every checksum."""
    first = next(stream)
    while first.next_cursor.epoch < 1:
        first = next(stream)
    timing = Timing(lambda batch: batch.on(device), stream, device).run(job.time_each, 2)
    return 1 / timing.seconds


def _under_training(job: Job, notes: Notes, shards, split: Split) -> None:
    """The reader beside a training: what it delivers, and what it costs the training."""
    engine = make_engine("bf16")
    trainer = Trainer(engine, settings(job, FAMILY, shards, job.folder / "none"), FAMILY, split)
    size, device = trainer.config.data.batch, engine.device
    alone = Timing(trainer.step, repeated(made_batch(split, size, device)), device).run(job.time_each, job.warm)
    with _stream(split, size, device) as stream:
        fed = Timing(trainer.step, stream, device).run(job.time_each, job.warm)
    notes.add("under training", size / fed.seconds, "chunks/s", note=f"{FAMILY}, bf16, batch of {size}")
    notes.add("waiting for data", fed.waited, "of the time", at_most=0.05)
    ratio = fed.seconds / alone.seconds
    notes.add("a step with the reader against one with a batch at hand", ratio, "of its time", at_most=1.02)


def wrong_batches(stream: BatchStream, split: Split, device: torch.device, count: int) -> int:
    """How many of `count` batches differ on the device from the chunks that they name.

    Work that is queued first keeps the device busy, so copies wait while the reader already wants their memory back.
    """
    hashes, chunks = [], []
    with stream:
        work = _work(device)
        for batch in _some(stream, count):
            next(work)
            hashes.append(content_hash(batch.on(device)))
            chunks.append(np.array(batch.chunks))
        wait(device)
    wrong = 0
    for found, named in zip(hashes, chunks, strict=True):
        expected = content_hash(split.read(named))
        wrong += not torch.equal(found.cpu(), expected)
    return wrong


def _some(stream: BatchStream, count: int) -> Iterator[Batch]:
    for _ in range(max(count, LEAST_STEPS)):
        yield next(stream)


def _work(device: torch.device) -> Iterator[None]:
    """Queues some ten milliseconds of work each time; nothing on a CPU."""
    if device.type != "cuda":
        while True:
            yield
    left = torch.randn(BUSY_SIZE, BUSY_SIZE, device=device, dtype=torch.bfloat16)
    out = torch.empty_like(left)
    while True:
        for _ in range(BUSY_PRODUCTS):
            torch.mm(left, left, out=out)
        yield


def content_hash(audio: Tensor) -> Tensor:
    """A hash of each row that depends on the place of each sample: int16 [n, T] -> int64 [n], exact on any device."""
    places = torch.arange(1, audio.shape[1] + 1, device=audio.device, dtype=torch.int64) * 0x9E3779B1
    return (audio.long() * places).sum(1)
