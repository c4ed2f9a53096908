"""What is run under faults: the real commands on tiny data, and how they are seen from outside."""

import os
import subprocess
import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import soundfile

from benchmarks.faults.plan import EVERY, Fault
from shards.building.build import build

if TYPE_CHECKING:
    from benchmarks.faults.runner import Outcome

ROOT = Path(__file__).parents[2]
RATE = 22050
SAMPLES = 2205
# Environment variable that marks all processes of an attempt, including those that outlive their parents.
MARK = "FAULTS_ATTEMPT"
STEP_S, SAVE_S = 0.1, 0.005  # the delays that a fault's `fraction` is a share of
TRUNK = {
    "model.trunk.strides": "[21,5]",
    "model.trunk.channels": "[24,24]",
    "model.trunk.blocks": 1,
    "model.latent": 8,
}


class Attempt(ABC):
    """An attempt as seen from outside. It is made before the processes are started.

    Attributes:
        kept: Steps that the attempt must begin with.
        number: The number of the attempt; None where attempts have no numbers, or when it has not logged its start.
    """

    kept: int
    number: int | None = None

    @abstractmethod
    def made(self) -> int:
        """Steps that the attempt has made so far."""

    @abstractmethod
    def is_saving(self, since: float) -> bool:
        """Whether it writes what was begun after `since` (Unix time)."""

    @abstractmethod
    def end(self, output: str) -> int:
        """The last step, called when all processes have ended, with what they have printed.

        Raises:
            FaultError: if the attempt has not begun with the steps that were kept.
        """

    @abstractmethod
    def first_step(self) -> float | None:
        """Unix time of its first step; None if it made none."""


class Target(ABC):
    """A command that is started again and again until it has finished, and the same one undisturbed.

    Attributes:
        kinds: The kinds of fault, with an explanation of each.
        last_file: The file that the command writes last.
        unit: What the command makes, one after the other; counted as the steps of faults.
        folder: For data and results.
        run: The folder that the command writes under faults.
        reference: The folder that it writes undisturbed.
    """

    name: ClassVar[str]
    about: ClassVar[str]
    kinds: ClassVar[Mapping[str, str]]
    last_file: ClassVar[str]
    unit: ClassVar[str] = "steps"
    save_s: ClassVar[float] = SAVE_S

    def __init__(self, folder: Path, run: Path) -> None:
        self.folder, self.run, self.reference = folder, run, folder / "reference"

    @classmethod
    @abstractmethod
    def plan(cls, kills: int, seed: int, kinds: Sequence[str]) -> list[Fault]:
        """A plan of faults that depends on the arguments only."""

    @abstractmethod
    def prepare(self, faults: Sequence[Fault]) -> int:
        """Makes the data; returns the steps of the whole."""

    @abstractmethod
    def undisturbed(self) -> list[str]:
        """The command that makes the reference."""

    @abstractmethod
    def command(self, fault: Fault | None) -> list[str]:
        """The command of an attempt, with its fault if it gets one."""

    @abstractmethod
    def attempt(self) -> Attempt:
        """The next attempt; call it before its processes are started."""

    @abstractmethod
    def ranks(self, fault: Fault | None) -> int:
        """The number of processes of an attempt with this fault, without the launcher."""

    def has_room(self, fault: Fault) -> bool:
        """Whether there is enough left to do for a fault in the next attempt; else that one finishes undisturbed."""
        return True

    def set_aside(self) -> None:
        """Is called when the command has finished before the last fault: makes room for the next one."""
        raise NotImplementedError

    def is_done(self) -> bool:
        """Whether the command has finished."""
        return (self.run / self.last_file).exists()

    def reference_is_done(self) -> bool:
        """Whether the undisturbed one has."""
        return (self.reference / self.last_file).exists()

    @abstractmethod
    def kept(self) -> int:
        """The steps from which the next attempt must go on."""

    @abstractmethod
    def damageable(self) -> list[Path]:
        """The files of which a fault damages one."""

    @abstractmethod
    def most_lost(self, kind: str, start: int, reached: int) -> int:
        """The largest number of steps that a fault may cost an attempt that began and ended at these steps."""

    @abstractmethod
    def check(self, run: Path, outcomes: Sequence["Outcome"]) -> dict[str, list[str]]:
        """Runs every check on the folder that was written under faults; returns the problems by the check's name."""


def make_data(folder: Path, recordings: int = 4, seconds: float = 3, valid: float = 0.25) -> Path:
    """Builds shards of decaying chords; by default 90 training chunks, 15 steps per epoch, and 30 held-out chunks."""
    audio = folder / "audio"
    audio.mkdir(parents=True)
    rng = np.random.default_rng(0)
    t = np.arange(round(seconds * RATE)) / RATE
    for k in range(recordings):
        tones = [np.sin(2 * np.pi * pitch * t) for pitch in rng.uniform(200, 800, 3)]
        soundfile.write(audio / f"{k}.wav", 0.2 * np.exp(-4 * (t % 0.25)) * np.sum(tones, axis=0), RATE)
    build(audio, folder / "data", samples=SAMPLES, hop=SAMPLES, valid=valid, workers=1)
    return folder / "data"


def make_autoencoder(folder: Path, data: Path) -> Path:
    """Trains a tiny VAE for a few steps; returns the run's folder."""
    run = folder / "autoencoder"
    settings = {
        **TRUNK,
        "data.batch": 6,
        "optim.steps": EVERY,
        "optim.warmup_steps": 2,
        "checkpoint.every": EVERY,
        "tracking.wandb": "disabled",
    }
    finish(alone("vae", *flags({"data": data, "run-dir": run, **settings})))
    return run


def flags(settings: Mapping[str, object]) -> list[str]:
    """Settings as flags of a training."""
    return [word for name, value in settings.items() for word in (f"--{name}", str(value))]


def alone(*words: object) -> list[str]:
    """The command `python -m train` in one process."""
    return [sys.executable, "-m", "train", *map(str, words)]


def launched(processes: int, *words: object) -> list[str]:
    """The same on several processes under the launcher, as a user would start it."""
    machine = ["--config_file", str(ROOT / "accelerate_config.yaml"), "--num_processes", str(processes)]
    return [sys.executable, "-m", "accelerate.commands.launch", *machine, "-m", "train", *map(str, words)]


def finish(command: list[str]) -> str:
    """Runs a command to its end; returns its output. Raises OSError if it fails."""
    done = subprocess.run(command, cwd=ROOT, env=environment(""), capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(f"{' '.join(command[1:5])} ... failed: {(done.stderr.splitlines() or ['no output'])[-1]}")
    return done.stdout


def environment(mark: str) -> dict[str, str]:
    """The environment of an attempt, without variables of W&B or of another launcher."""
    foreign = ("WANDB", "TORCHELASTIC", "ACCELERATE", "RANK", "LOCAL_RANK", "WORLD_SIZE")
    kept = {key: value for key, value in os.environ.items() if not key.startswith(foreign)}
    return {**kept, "PYTHONPATH": str(ROOT), MARK: mark}
