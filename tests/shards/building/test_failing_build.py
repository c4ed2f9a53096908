"""The disk fails at a call of a build: one line says so, and the same command again gives the bytes of a whole one."""

import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from failing_build import Fault, Outcome, fresh, run_build
from small_builds import add_recordings, build_here, contents

from shards.__main__ import main
from shards.building.build import build

FLAGS = {"samples": 2205, "hop": 1000, "valid": 0.2, "chunks_per_shard": 10, "workers": 1}
WORDS = [word for name, value in FLAGS.items() for word in (f"--{name}", str(value))]


@pytest.fixture(autouse=True)
def here(monkeypatch):
    build_here(monkeypatch)
    monkeypatch.setattr("shards.building.plan.PART_CHUNKS", 30)  # two parts
    monkeypatch.setattr("shards.files.lease.STALE_S", 0.3)  # for a lease whose holder could not be written


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    """Recordings, one of them twice, and a file that is none."""
    folder = tmp_path_factory.mktemp("recordings")
    add_recordings(folder, range(4), seconds=0.4)
    shutil.copy(folder / "00.wav", folder / "copy.wav")
    (folder / "notes.txt").write_text("no audio")
    for place, file in enumerate(sorted(folder.iterdir())):
        os.utime(file, (place, place))
    return folder


class Walk:
    """A build on a disk that fails at each call in turn."""

    def __init__(self, recordings: Path, folder: Path, origin: Path | None = None) -> None:
        self.out, self._origin, self._log = folder / "out", origin, folder / "log"
        self._log.mkdir()
        self._words = ["build", str(recordings), str(self.out), *WORDS]
        main(["build", str(recordings), str(folder / "first"), *WORDS])  # imports here what each fork would import
        whole = self.run(Fault())
        assert whole.code == 0, whole.told
        self.calls, self.expected = whole.calls, contents(self.out)

    def run(self, fault: Fault) -> Outcome:
        """The command from the beginning, on a disk with a fault."""
        fresh(self.out, self._origin)
        return run_build(self._words, self.out, fault, self._log)

    def check(self, fault: Fault) -> Outcome:
        """Fail, and then run the same command again on a sound disk."""
        ended = self.run(fault)
        about = f"{fault} {ended.failed[:1]}: {ended.told[-2000:]}"
        assert ended.failed, about
        assert "Traceback" not in ended.told, about
        assert "Exception ignored" not in ended.told, about
        errors = [line for line in ended.told.splitlines() if line.startswith("error: ")]
        if ended.code:
            assert ended.code == 1, about
            assert len(errors) == 1, about
            assert ended.told.splitlines()[-1] == errors[0], about
            assert str(self.out) in errors[0], about
        else:  # only the removal of what is not needed any more failed
            assert not errors, about
            there = contents(self.out)
            assert {name: there[name] for name in there if not name.startswith(".build/")} == self.expected, about
        again = run_build(self._words, self.out, Fault(), self._log)
        assert again.code == 0, f"{about}\nagain: {again.told[-2000:]}"
        assert contents(self.out) == self.expected, about
        return ended


KINDS = ((errno.EIO, False), (errno.ENOSPC, True), (errno.ENOSPC, False), (errno.EIO, True))


def every_fault(walk: Walk) -> Iterator[Fault]:
    """Each call fails: by turns with an error or for lack of room, once or for good."""
    for at in range(1, walk.calls + 1):
        yield Fault(at, *KINDS[at % len(KINDS)])


def test_at_some_calls(recordings, tmp_path):
    walk = Walk(recordings, tmp_path)
    assert walk.calls > 100
    for number in range(8):
        fault = Fault(1 + number * walk.calls // 8, (errno.EIO, errno.ENOSPC)[number % 2], number % 4 > 1)
        walk.check(fault)


@pytest.mark.slow(area="building")
def test_at_every_call_of_a_first_build(recordings, tmp_path):
    walk = Walk(recordings, tmp_path)
    ended = [walk.check(fault) for fault in every_fault(walk)]
    failed = {one.failed[0].split()[0] for one in ended}
    assert failed >= {
        "open",
        "read",
        "write",
        "pwrite",
        "fsync",
        "close",
        "replace",
        "link",
        "mkdir",
        "unlink",
    }
    assert sum(one.code for one in ended) > len(ended) / 2


@pytest.mark.slow(area="building")
def test_at_every_call_while_recordings_are_added(recordings, tmp_path):
    """The old data set stays readable until the new one is whole."""
    early, origin = tmp_path / "early", tmp_path / "origin"
    shutil.copytree(recordings, early)
    for name in ("02.wav", "03.wav", "copy.wav"):
        (early / name).unlink()
    build(early, origin, **FLAGS)
    shutil.rmtree(early)
    shutil.copytree(recordings, early)
    before = contents(origin)
    walk = Walk(early, tmp_path, origin)
    assert walk.expected["dataset.json"] != before["dataset.json"]
    for at in range(1, walk.calls + 1):
        walk.run(Fault(at, errno.EIO))
        there = contents(walk.out)
        if there["dataset.json"] == before["dataset.json"]:
            assert before.items() <= there.items()
        walk.check(Fault(at, (errno.EIO, errno.ENOSPC)[at % 2]))
