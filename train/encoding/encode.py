"""`python -m train encode RUN DATA OUT`: encodes the recordings of a data set into a data set of latents.

Under a launcher, all processes share the recordings. Each recording is encoded by one process alone, on a CPU by one
thread, so the bytes of the data set depend neither on the number of processes nor on interruptions.
"""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch

from audiovae import ModelError
from audiovae.recordings.sequences import sequence_of, to_numbers
from shards.files.lease import Lease
from shards.manifest import Manifest
from shards.progress import audio_speed, progress
from shards.text import printable
from train.encoding.data_folder import begin, clear, finish, finished
from train.encoding.job import Job, open_job
from train.encoding.recordings import Recording
from train.encoding.sequence_file import read_sequence, write_sequence
from train.errors import TrainError, TransientError
from train.parallel.engine import Engine, is_lost_peer
from train.runs.latest_model import folder_of_weights


def encode(settings: Any, engine: Engine) -> int:
    """Encodes a data set; returns the exit code. The same command goes on with what an interrupted one has left."""
    began = time.monotonic()
    try:
        # A running training saves and deletes checkpoints, so one process selects the weights for all.
        source = engine.on_main(lambda: folder_of_weights(Path(settings.run)))
        share = (engine.rank, engine.world)
        job = engine.everywhere(lambda: open_job(settings, source, _device(settings.device, engine), share))
        there = engine.on_main(lambda: finished(job) is not None)
        if engine.is_main and job.labels and job.labels.note:
            print(printable(f"--labels {settings.labels}: {job.labels.note}"), file=sys.stderr, flush=True)
        if not there:
            _encode(job, engine, began)
        elif engine.is_main:
            clear(job)  # a process may have been ended just before
            print(printable(f"{job.out}: finished already, by the same model from the same data"))
        engine.wait_for_all()
    except RuntimeError as error:
        if engine.world > 1 and is_lost_peer(error):
            raise TransientError(
                "another process of this encoding ended; see its error and run the command again"
            ) from None
        raise
    return 0


def _device(wanted: str, engine: Engine) -> str:
    if wanted in ("auto", engine.device.type):  # each process has its own GPU
        return str(engine.device) if engine.device.type == "cuda" else "cpu"
    return wanted


def _encode(job: Job, engine: Engine, began: float) -> None:
    leases: list[Lease] = []
    try:
        engine.on_main(lambda: leases.append(begin(job)))
        missing = _missing(job, engine)
        with _one_thread(), _shown(engine, sum(recording.samples for recording in missing) / job.model.rate) as show:
            done = 0
            for first in range(0, len(missing), engine.world):
                now = missing[first : first + engine.world]
                # The processes wait for each other here, so an error of one ends all at once.
                engine.everywhere(partial(_encode_one, job, now[engine.rank : engine.rank + 1]))
                done += sum(recording.samples for recording in now)
                show(done / job.model.rate)
        engine.on_main(lambda: _finish(job, began))
    finally:
        for lease in leases:
            lease.release()


def _missing(job: Job, engine: Engine) -> list[Recording]:
    """The recordings that no intact file holds, long ones first: those of one round then take about as long."""
    there = torch.zeros(len(job.recordings), device=engine.device)

    def look() -> None:
        for i in range(engine.rank, len(job.recordings), engine.world):
            recording = job.recordings[i]
            there[i] = read_sequence(job.file(recording), job.key(recording), job.layout.rows) is not None

    engine.everywhere(look)
    found = engine.sum({"there": there})["there"].tolist()
    missing = [recording for recording, one in zip(job.recordings, found, strict=True) if not one]
    if engine.is_main and len(missing) < len(found):
        line = f"{job.out}: {len(found) - len(missing):,} of {len(found):,} recordings were encoded before"
        print(printable(line), file=sys.stderr, flush=True)
    return sorted(missing, key=lambda recording: (-recording.samples, recording.row))


def _encode_one(job: Job, share: list[Recording]) -> None:
    """Encodes this process's recording of a round, if there is one."""
    for recording in share:
        try:
            numbers = to_numbers(sequence_of(job.model, recording.audio(job.samples(recording)), job.frames))
        except ModelError as error:
            raise TrainError(f"{recording.path}: {error}; encode with another model") from None
        write_sequence(job.file(recording), job.key(recording), numbers)


def _finish(job: Job, began: float) -> None:
    manifest = finish(job)
    clear(job)
    print(printable(f"{job.out}: {summary(job, manifest)} in {time.monotonic() - began:.0f} s"), flush=True)


def summary(job: Job, manifest: Manifest) -> str:
    """What a new data set holds, in words."""
    windows = sum(level.chunks for level in manifest.levels.values())
    hours = sum(level.hours for level in manifest.levels.values())
    size = sum(shard.bytes for shards in manifest.splits.values() for shard in shards)
    length = job.frames.samples(job.layout.frames) / job.model.rate
    counts = f"{len(job.recordings):,} recordings, {windows:,} windows of {length:.4g} s"
    labels = f", {len(job.layout.labels):,} labels" if job.layout.labels else ""
    return f"{counts}, {hours:.2f} h, {size / 1e6:,.1f} MB{labels}"


@contextmanager
def _one_thread() -> Iterator[None]:
    """One thread of torch: sums of several threads depend on their number."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _shown(engine: Engine, seconds: float) -> Iterator[Callable[[float], None]]:
    """Shows progress on the main process; yields the function that takes the seconds of audio done."""
    if not engine.is_main:
        yield lambda done: None
        return
    with progress("encoding", seconds, audio_speed) as show:
        yield show
