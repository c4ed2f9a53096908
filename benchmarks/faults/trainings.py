"""The trainings under faults: an autoencoder with every kind of state, and a prior, on two processes."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from benchmarks.faults.checks import all_checks
from benchmarks.faults.observation import (
    first_step_of,
    is_saving,
    last_attempt,
    last_point,
    newest_intact,
    reached,
    sizes,
)
from benchmarks.faults.plan import EVERY, TRAINING, Fault, most_lost, plan, steps_needed
from benchmarks.faults.processes import FaultError
from benchmarks.faults.runner import Outcome
from benchmarks.faults.target import TRUNK, Attempt, Target, alone, finish, flags, launched, make_autoencoder, make_data
from shards import Manifest
from shards.mixing.places import parse_places
from train.runs.checkpoint import all_checkpoints

BATCH = 6
PROCESSES = 2
COMMON = {
    "data.batch": BATCH,
    "optim.warmup_steps": 2,
    "tracking.every": 1,
    "tracking.evaluate_every": 16,  # so that faults meet evaluations, mostly apart from saves
    "tracking.audio_every": 10**6,
    "tracking.samples": "true",
    "checkpoint.every": EVERY,
    "watchdog_s": 120,
}


class TrainingAttempt(Attempt):
    """An attempt of a training, by the files of its run."""

    def __init__(self, run: Path) -> None:
        before = last_attempt(run)
        self._run, self._noted = run, sizes(run)
        self._expected = (before["attempt"] if before else 0) + 1
        self.kept = newest_intact(run)

    def made(self) -> int:
        """See `Attempt.made`."""
        point, start = last_point(self._run), last_attempt(self._run)
        if point is None or start is None or not start["attempt"] == point["attempt"] == self._expected:
            return 0
        return point["step"] - start["step"]

    def is_saving(self, since: float) -> bool:
        """See `Attempt.is_saving`."""
        return is_saving(self._run, since)

    def end(self, output: str) -> int:
        """See `Attempt.end`."""
        start = last_attempt(self._run)
        if start is not None and start["attempt"] == self._expected:
            self.number = self._expected
            if start["step"] != self.kept:
                raise FaultError(
                    f"the attempt began at step {start['step']}, the newest intact checkpoint is of step {self.kept}"
                )
        last = reached(self._run, self._noted)
        return self.kept if last is None else last

    def first_step(self) -> float | None:
        """See `Attempt.first_step`."""
        return first_step_of(self._run, self._expected)


class Training(Target):
    """A training on two processes under the launcher."""

    kinds, last_file = TRAINING, "DONE"
    family: ClassVar[str]
    settings: ClassVar[Mapping[str, object]]

    @classmethod
    def plan(cls, kills: int, seed: int, kinds: Sequence[str]) -> list[Fault]:
        """See `Target.plan`."""
        return plan(kills, seed, kinds)

    @abstractmethod
    def make_data(self) -> str | Path:
        """Makes the data set to train on, or several."""

    def prepare(self, faults: Sequence[Fault]) -> int:
        """See `Target.prepare`."""
        self._steps, self.data = steps_needed(faults), self.make_data()
        return self._steps

    def undisturbed(self) -> list[str]:
        """See `Target.undisturbed`."""
        return self._command(self.reference, "disabled")

    def command(self, fault: Fault | None) -> list[str]:
        """See `Target.command`."""
        return self._command(self.run, "offline")

    def _command(self, run: Path, wandb: str) -> list[str]:
        own = {"data": self.data, "run-dir": run, "optim.steps": self._steps, "tracking.wandb": wandb}
        return launched(PROCESSES, self.family, *flags({**own, **COMMON, **self.settings}))

    def ranks(self, fault: Fault | None) -> int:
        """See `Target.ranks`."""
        return PROCESSES

    def attempt(self) -> TrainingAttempt:
        """See `Target.attempt`."""
        return TrainingAttempt(self.run)

    def kept(self) -> int:
        """See `Target.kept`."""
        return newest_intact(self.run)

    def damageable(self) -> list[Path]:
        """The files of the newest checkpoint."""
        return sorted(path for path in all_checkpoints(self.run / "checkpoints")[0].iterdir() if path.stat().st_size)

    def most_lost(self, kind: str, start: int, reached: int) -> int:
        """See `Target.most_lost`."""
        return most_lost(kind, start, reached)

    def check(self, run: Path, outcomes: Sequence[Outcome]) -> dict[str, list[str]]:
        """See `Target.check`."""
        return all_checks(run, self.reference, self._steps, training_chunks(self.data), BATCH, outcomes)


class AutoencoderTraining(Training):
    """The training of an autoencoder that goes through its phases."""

    name, family = "autoencoder", "vqvae"
    about = "the training of a tiny VQ-VAE with an adversarial phase, on two processes"
    settings: ClassVar[Mapping[str, object]] = {
        **TRUNK,
        "kl_warmup.steps": 4,
        "model.quantizer.codebooks": 2,
        "model.quantizer.size": 16,
        "model.quantizer.start_step": 2,
        # All but the first steps are in the adversarial phase, and codebooks and encoder move there, too.
        "adversarial.start": EVERY,
        "adversarial.windows": "[256,64]",
        "adversarial.filters": 2,
        "adversarial.lead": 2,
        "adversarial.ramp": 50,
        "adversarial.freeze": "false",
    }

    def make_data(self) -> str | Path:
        """See `Training.make_data`."""
        return make_data(self.folder)


class MixtureTraining(AutoencoderTraining):
    """The same on two data sets, one of which is small and read many times."""

    name = "mixture"
    about = "the training of a tiny VQ-VAE on two data sets in fixed shares, on two processes"

    def make_data(self) -> str:
        """See `Training.make_data`."""
        small = make_data(self.folder / "small", recordings=2, seconds=1.1, valid=0.5)
        return f"{make_data(self.folder)} + {small}:0.3"


class PriorTraining(Training):
    """The training of a prior, with dropout and the random times and noise of a flow."""

    name, family = "prior", "prior"
    about = "the training of a tiny prior on the latents of a VAE, on two processes"
    settings: ClassVar[Mapping[str, object]] = {
        "model.transformer.width": 32,
        "model.transformer.layers": 2,
        "model.transformer.heads": 2,
        "model.transformer.dropout": 0.1,
    }

    def make_data(self) -> Path:
        """Latents in windows of half a second: 33 training windows, 5 steps an epoch."""
        audio, latents = make_data(self.folder), self.folder / "latents"
        finish(alone("encode", make_autoencoder(self.folder, audio), audio, latents, "--seconds", 0.5))
        return latents


def training_chunks(data: str | Path) -> list[int]:
    """Chunks of an epoch, of each data set."""
    return [Manifest.load(place.path).chunks("train") for place in parse_places(data)]
