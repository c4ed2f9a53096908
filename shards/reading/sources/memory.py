"""Memory that readers fill: large, page-aligned, and how much of it there is."""

import mmap
from pathlib import Path

import numpy as np
import psutil
import torch

HUGE_PAGE = 2 << 20


def allocate(size: int, pinned: bool = False) -> np.ndarray:
    """Memory of ``size`` bytes that begins at a page, uint8 [size]; ``pinned`` for copies to a GPU."""
    if pinned:
        return torch.empty(size, dtype=torch.uint8, pin_memory=True).numpy()
    # Shared memory, Python's default, would get no huge pages and be two to three times slower.
    area = mmap.mmap(-1, -(-size // HUGE_PAGE) * HUGE_PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    area.madvise(mmap.MADV_HUGEPAGE)
    return np.frombuffer(area, np.uint8, size)


def installed_memory() -> int:
    """Bytes of memory that the machine has."""
    return int(psutil.virtual_memory().total)


def available_memory() -> int:
    """Bytes that this process and its siblings may still take: of the machine, or of their control group."""
    free = psutil.virtual_memory().available
    for limit, used, cache in _cgroup_figures():
        free = min(free, limit - max(0, used - cache))
    return max(0, free)


def _cgroup_figures() -> list[tuple[int, int, int]]:
    """Limit, use and page cache of the control groups around this process that have a limit."""
    found: list[tuple[int, int, int]] = []
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return found
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":  # version 2
            root, names, cache_key = Path("/sys/fs/cgroup"), ("memory.max", "memory.current"), "file "
        elif "memory" in controllers.split(","):
            root, names = Path("/sys/fs/cgroup/memory"), ("memory.limit_in_bytes", "memory.usage_in_bytes")
            cache_key = "total_cache "
        else:
            continue
        here = root / path.lstrip("/")
        for folder in (here, *here.parents):
            if not folder.is_relative_to(root):
                break
            try:
                limit, used = (int((folder / name).read_text()) for name in names)
                stat = (folder / "memory.stat").read_text().splitlines()
            except (OSError, ValueError):  # "max": no limit
                continue
            cache = next((int(row.split()[1]) for row in stat if row.startswith(cache_key)), 0)
            found.append((limit, used, cache))
    return found
