"""Facts about the machine of a measurement."""

import os
import platform
from datetime import date
from importlib.metadata import PackageNotFoundError, version

import psutil

LIBRARIES = ("torch", "numpy", "webdataset", "litdata", "mosaicml-streaming", "soundfile", "soxr", "lmdb")


def facts() -> dict:
    """Cores, memory, kernel and versions, as plain values."""
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    return {
        "date": date.today().isoformat(),
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "libraries": found,
    }


def _processor() -> str:
    try:
        with open("/proc/cpuinfo") as lines:
            return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.machine()
