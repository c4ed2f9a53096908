"""What the machine can do at most: matrix products, memory, and copies from pinned memory."""

import time
from collections.abc import Callable

import torch

from benchmarks.gpu.data import music, noise
from benchmarks.gpu.job import Job
from benchmarks.gpu.rows import Notes

SIZE, QUICK_SIZE = 8192, 256
COPIED_BYTES, QUICK_COPIED_BYTES = 2 << 30, 1 << 20
# By name: the type of the operands, and whether TF32 is allowed.
PRODUCTS = {"fp32": (torch.float32, False), "TF32": (torch.float32, True), "bf16": (torch.bfloat16, True)}


def measure(job: Job, notes: Notes) -> None:
    """Adds the peaks by which other parts are judged."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    for name, (kind, tf32) in PRODUCTS.items():
        with notes.trying(f"matmul {name}"):
            notes.add(f"matmul {name}", _product(job, device, kind, tf32) / 1e12, "TFLOP/s", note="random operands")
    with notes.trying("memory"):
        notes.add("memory", _copy(job, device, device) / 1e9, "GB/s", note="bytes read and written by a copy")
    with notes.trying("host to device"):
        host = torch.device("cpu")
        notes.add("host to device", _copy(job, host, device) / 2e9, "GB/s", note="from pinned memory")
    with notes.trying("data for the other parts"):
        began = time.perf_counter()
        music(job)
        noise(job)
        notes.add("data for the other parts", time.perf_counter() - began, "s", note="generated music, and noise")


def seconds_of(seconds: float, device: torch.device, action: Callable[[], object]) -> float:
    """Seconds that one call of `action` takes on the device: a mean over `seconds` after a few other calls."""
    for _ in range(3):
        action()
    _wait(device)
    count, began = 0, time.perf_counter()
    while count < 3 or time.perf_counter() - began < seconds:
        for _ in range(4):
            action()
        _wait(device)
        count += 4
    return (time.perf_counter() - began) / count


def _product(job: Job, device: torch.device, kind: torch.dtype, tf32: bool) -> float:
    """Operations a second of square matrix products."""
    size = QUICK_SIZE if job.quick or device.type == "cpu" else SIZE
    torch.backends.cuda.matmul.allow_tf32 = tf32
    left, right = (torch.randn(size, size, device=device).to(kind) for _ in range(2))
    out = torch.empty_like(left)
    return 2 * size**3 / seconds_of(job.time_each / 3, device, lambda: torch.mm(left, right, out=out))


def _copy(job: Job, source: torch.device, target: torch.device) -> float:
    """Bytes a second that a large copy reads and writes."""
    small = job.quick or target.type == "cpu"
    count = QUICK_COPIED_BYTES if small else COPIED_BYTES
    pinned = source.type == "cpu" and target.type == "cuda"
    here = torch.ones(count, dtype=torch.uint8, device=source, pin_memory=pinned)
    there = torch.empty(count, dtype=torch.uint8, device=target)
    return 2 * count / seconds_of(job.time_each / 3, target, lambda: there.copy_(here, non_blocking=True))


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
