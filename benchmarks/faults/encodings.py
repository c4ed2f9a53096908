"""The encoding under faults: `python -m train encode` of many recordings, on one process or two."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from benchmarks.faults.checks import losses
from benchmarks.faults.plan import DAMAGING, ENCODING, Fault, plan
from benchmarks.faults.processes import FaultError
from benchmarks.faults.runner import Outcome
from benchmarks.faults.target import ROOT, Attempt, Target, alone, environment, launched, make_autoencoder, make_data
from shards import Manifest
from shards.manifest import FILE_NAME
from train.encoding.job import FOLDER
from train.encoding.sequence_file import DIGITS, read_sequence

RECORDINGS, SECONDS = 40, 20.0
MOST_STEPS = 6  # of an attempt before a fault
SLACK = 8  # recordings that may be encoded between the planned moment of a fault and its effect
WINDOW = ("--seconds", 1)


class EncodingAttempt(Attempt):
    """An attempt of an encoding, by the files of its folder."""

    def __init__(self, target: "Encoding") -> None:
        self._target, self.kept = target, target.kept()
        self._noted = dict(target.files())

    def _new(self) -> list[float]:
        """When each file that is new was written, Unix time."""
        return [about.st_mtime for path, about in self._target.files() if not self._is_noted(path, about)]

    def _is_noted(self, path: Path, about: os.stat_result) -> bool:
        """Whether a file was there before; files are replaced, so that a new one is another inode."""
        before = self._noted.get(path)
        return before is not None and (before.st_ino, before.st_mtime_ns) == (about.st_ino, about.st_mtime_ns)

    def made(self) -> int:
        """See `Attempt.made`."""
        return self._target.total - self.kept if self._target.is_done() else len(self._new())

    def is_saving(self, since: float) -> bool:
        """Whether the shards are being written, or all is written already."""
        begun = 0.0
        with suppress(OSError):
            begun = (self._target.run / FOLDER / "spool").stat().st_mtime
        return begun >= since or self._target.is_done()

    def end(self, output: str) -> int:
        """See `Attempt.end`."""
        found = re.search(r"([\d,]+) of [\d,]+ recordings were encoded before", output)
        if found and int(found[1].replace(",", "")) != self.kept:
            raise FaultError(f"the attempt kept {found[1]} recordings, but {self.kept} intact ones were there")
        return self.kept + self.made()

    def first_step(self) -> float | None:
        """See `Attempt.first_step`."""
        return min(self._new(), default=None)


class Encoding(Target):
    """An encoding, and a new one whenever it has finished before the last fault."""

    name, kinds, last_file, unit, save_s = "encode", ENCODING, FILE_NAME, "recordings", 0.3
    about = "the encoding of 40 recordings with a tiny VAE, on one process or two"

    @classmethod
    def plan(cls, kills: int, seed: int, kinds: Sequence[str]) -> list[Fault]:
        """See `Target.plan`. While the shards are written, all recordings are encoded."""
        return plan(kills, seed, kinds, lambda kind: (0, 0) if kind == "kill during a save" else (1, MOST_STEPS))

    def prepare(self, faults: Sequence[Fault]) -> int:
        """See `Target.prepare`."""
        self._data = make_data(self.folder, RECORDINGS, SECONDS)
        self._model = make_autoencoder(self.folder, self._data)
        self.total = len(Manifest.load(self._data).sources)
        self._finished: list[Path] = []
        return self.total

    def _words(self, out: Path) -> list[object]:
        return ["encode", self._model, self._data, out, *WINDOW]

    def undisturbed(self) -> list[str]:
        """See `Target.undisturbed`."""
        return alone(*self._words(self.reference))

    def command(self, fault: Fault | None) -> list[str]:
        """See `Target.command`."""
        ranks = self.ranks(fault)
        return launched(ranks, *self._words(self.run)) if ranks > 1 else alone(*self._words(self.run))

    def ranks(self, fault: Fault | None) -> int:
        """One or two by chance where a fault allows both."""
        return 2 if fault is None or fault.kind in ("kill rank 1", "kill all ranks") else 1 + int(fault.where * 64) % 2

    def attempt(self) -> EncodingAttempt:
        """See `Target.attempt`."""
        return EncodingAttempt(self)

    def has_room(self, fault: Fault) -> bool:
        """See `Target.has_room`."""
        return not self.is_done() and (
            fault.moment != "step" or self.total - self.kept() >= fault.steps + SLACK * self.ranks(fault)
        )

    def set_aside(self) -> None:
        """Keeps the finished folder for the checks; the next attempt begins a new one."""
        self._finished.append(self.folder / f"finished-{len(self._finished) + 1}")
        shutil.move(self.run, self._finished[-1])

    def files(self) -> list[tuple[Path, os.stat_result]]:
        """The files of encoded recordings."""
        found = []
        for path in sorted((self.run / FOLDER).glob("*.latents")):
            try:
                found.append((path, path.stat()))
            except FileNotFoundError:  # it has just been finished
                continue
        return found

    def kept(self) -> int:
        """See `Target.kept`."""
        return self.total if self.is_done() else sum(is_intact(path) for path, _ in self.files())

    def damageable(self) -> list[Path]:
        """The files of encoded recordings."""
        return [path for path, _ in self.files()]

    def most_lost(self, kind: str, start: int, reached: int) -> int:
        """A recording if its file is damaged; nothing else costs one that was encoded."""
        return int(kind in DAMAGING)

    def check(self, run: Path, outcomes: Sequence[Outcome]) -> dict[str, list[str]]:
        """See `Target.check`."""
        folders = [*self._finished, run]
        return {
            f"{len(folders)} finished folders hold the bytes of the undisturbed one, and nothing else": [
                problem for folder in folders for problem in differences(folder, self.reference)
            ],
            "shards verify finds nothing in them": [problem for folder in folders for problem in verify(folder)],
            "no fault costs a recording but the damaged one": losses(outcomes),
        }


def is_intact(path: Path) -> bool:
    """Whether the file of an encoded recording has its checksum."""
    try:
        key = path.read_bytes()[DIGITS : 2 * DIGITS].decode(errors="replace")
        return read_sequence(path, key, 1) is not None
    except FileNotFoundError:
        return False


def differences(folder: Path, reference: Path) -> list[str]:
    """Compares two folders, each with all that is in it."""
    one, two = (
        {str(path.relative_to(place)): path.read_bytes() if path.is_file() else None for path in place.rglob("*")}
        for place in (folder, reference)
    )
    problems = [f"{folder.name}/{name} is too much" for name in sorted(one.keys() - two.keys())]
    problems += [f"{folder.name}/{name} is missing" for name in sorted(two.keys() - one.keys())]
    return problems + [f"{folder.name}/{name} differs" for name in sorted(one.keys() & two) if one[name] != two[name]]


def verify(folder: Path) -> list[str]:
    """What `python -m shards verify` finds in a folder."""
    command = [sys.executable, "-m", "shards", "verify", str(folder)]
    done = subprocess.run(command, cwd=ROOT, env=environment("verify"), capture_output=True, text=True, check=False)
    return [f"{folder.name}: {(done.stderr.splitlines() or ['no output'])[-1]}"] if done.returncode else []
