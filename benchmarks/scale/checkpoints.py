"""Bytes, memory and time of checkpoints: measured with real ones of three sizes, and computed for large models."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from audiovae import Autoencoder, build
from audiovae.layers.trunk import TrunkConfig
from audiovae.models.vae import VAEConfig
from train.config import DataConfig, VAERun
from train.optim.snapshot import Snapshot
from train.parallel.engine import Engine
from train.runs import checkpoint
from train.runs.checkpoint import Retention
from train.training.learner import make_learner
from train.training.preflight.disk import SNAPSHOT_BYTES

WIDTHS = (128, 256, 512)
SAMPLES, RATE = 22050, 22050
# Bytes of a parameter in the files of a checkpoint: the snapshot's 16, and its parts in the model folder once more.
FILE_BYTES = SNAPSHOT_BYTES + 4
# Bytes of a parameter on the devices: weights, gradients, two moments, averages.
DEVICE_BYTES = 20
BILLIONS = (0.1, 1.0, 5.0)
GB = 1e9


@dataclass(frozen=True)
class Saved:
    """A real checkpoint.

    Attributes:
        parameters: Parameters of the model.
        snapshot: Bytes of the snapshot in host memory.
        files: Bytes of its files.
        stall_s: Seconds to take the snapshot, into memory that an earlier one has touched.
        write_s: Seconds to write the files, with their hashes and fsync.
        read_s: Seconds to verify and read them.
    """

    parameters: int
    snapshot: int
    files: int
    stall_s: float
    write_s: float
    read_s: float


def measure(folder: Path) -> Iterator[Saved]:
    """Saves VAEs of three sizes with the product's own code, by one process."""
    engine = Engine()
    for width in WIDTHS:
        model = build("vae", VAEConfig(TrunkConfig([98, 5], [width, 2 * width], 2, 3)), SAMPLES, RATE)
        config = VAERun(DataConfig(str(folder)), folder / f"save-{width}")
        learner = make_learner(config, model, engine)
        learner.snapshot()
        began = time.perf_counter()
        snapshot = learner.snapshot()
        stall_s = time.perf_counter() - began
        yield _save(config.run_dir, model, snapshot, stall_s)


def _save(folder: Path, model: Autoencoder, snapshot: Snapshot, stall_s: float) -> Saved:
    (folder / "checkpoints").mkdir(parents=True, exist_ok=True)
    began = time.perf_counter()
    saved = checkpoint.save(folder / "checkpoints", model, snapshot, Retention(1, best=False))
    write_s = time.perf_counter() - began
    began = time.perf_counter()
    if problem := checkpoint.damage(saved):
        raise RuntimeError(problem)
    checkpoint.load(saved)
    read_s = time.perf_counter() - began
    count = sum(parameter.numel() for parameter in model.parameters())
    size = sum(file.stat().st_size for file in saved.iterdir())
    return Saved(count, _held(snapshot), size, stall_s, write_s, read_s)


def _held(snapshot: Snapshot) -> int:
    """Bytes of the snapshot in memory: buffers of the averages are those of the weights."""
    parts = (snapshot.weights, snapshot.averages, snapshot.moments)
    return sum(value.numel() * value.element_size() for part in parts for value in part.values())


@dataclass(frozen=True)
class Large:
    """What a checkpoint of a large model takes. Bytes in GB, times in seconds.

    Attributes:
        billions: Parameters.
        device_ddp: Memory of each GPU for the training state under DDP, without activations.
        device_zero: The same under ZeRO-3.
        host: Host memory of rank 0 for the snapshot; with the comparison of the preflight check twice as much.
        files: Bytes of a checkpoint.
        stall_ddp: Wait for the copy from rank 0's device.
        stall_zero: Wait for the gathering of all shards.
        write: Time to write and hash the files, while training continues.
    """

    billions: float
    device_ddp: float
    device_zero: float
    host: float
    files: float
    stall_ddp: float
    stall_zero: float
    write: float


def large(billions: float, world: int, disk: float, hashing: float, bus: float, network: float) -> Large:
    """Computes a large checkpoint; `disk`, `hashing`, `bus` and `network` are GB/s of one process."""
    host, files = SNAPSHOT_BYTES * billions, FILE_BYTES * billions
    return Large(
        billions,
        DEVICE_BYTES * billions,
        DEVICE_BYTES * billions / world,
        host,
        files,
        host / bus,
        host / network + host / bus,
        files / disk + files / hashing,
    )
