"""Which files the processes of a training map into memory.

A mapped file that becomes shorter, or a full tmpfs below it, ends a process with SIGBUS before it can save.
`shards.reading.sources.sigbus` names a shard in that case. So nothing else may be mapped: no checkpoint that was
restored from, and no shared memory.
"""

import mmap
import os
import sys
from pathlib import Path

from tests.train.conftest import BETWEEN_EVALUATIONS, flags, start_ranks, train, wait_for_step

# Python, its packages and the system's libraries.
PROGRAMS = tuple({*map(os.path.realpath, (sys.base_prefix, sys.prefix)), "/usr", "/lib", "/lib64", "/etc", "/opt"})


def mapped(pid: int) -> set[Path]:
    """The files that a process maps, without programs, libraries and memory of the kernel."""
    found = set()
    for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
        name = line.split(None, 5)[5:]
        if name and name[0].startswith("/") and not name[0].startswith(tuple(f"{place}/" for place in PROGRAMS)):
            found.add(Path(name[0]))
    return found


def test_a_mapped_file_is_seen(tmp_path):
    (tmp_path / "state").write_bytes(bytes(5000))
    with open(tmp_path / "state", "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ):
        assert tmp_path / "state" in mapped(os.getpid())
    assert tmp_path / "state" not in mapped(os.getpid())


def test_a_resumed_training_maps_only_its_shards(data_dir, tmp_path):
    run = tmp_path / "run"
    words = flags("vqvae", data_dir, run, "--optim.steps", "4000", "--tracking.wandb", "offline", *BETWEEN_EVALUATIONS)
    words += ["--adversarial.start", "3", "--adversarial.windows", "[256,128]", "--adversarial.filters", "4"]
    train([*words, "--stop_at", "5"], processes=2, code=85)
    ranks = start_ranks(words, 2)
    try:
        wait_for_step(run, 12, ranks[0])  # with saves, and after the first look at held-out chunks
        files = [mapped(rank.pid) for rank in ranks]
    finally:
        for rank in ranks:
            rank.kill()
    for rank, own in enumerate(files):
        assert {file.suffix for file in own} == {".tar"}, (rank, own)
        assert all(file.is_relative_to(os.path.realpath(data_dir)) for file in own), (rank, own)
