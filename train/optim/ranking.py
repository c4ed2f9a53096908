"""Held-out measures that rank checkpoints, and how long a run goes on without a better value."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

Measure = Literal["si_sdr", "mel", "stft", "mse", "cosine", "frechet", "zimtohrli", "loss"]
MEASURES: tuple[str, ...] = get_args(Measure)
OF_PRIORS = ("loss",)
OF_AUTOENCODERS = tuple(name for name in MEASURES if name not in OF_PRIORS)
# Of the other measures, lower values are better.
HIGHER_IS_BETTER = ("si_sdr", "cosine", "zimtohrli")
# Measured only in runs that name them, as they take more time.
ON_REQUEST = ("frechet", "zimtohrli")
# State entries: all held-out values; and the one value that states of older versions have.
VALUES, OLDER = "valid", "valid_si_sdr"


def better(measure: str, value: float, other: float) -> bool:
    """Whether a value of a measure is better than another one; NaN is never better."""
    return value > other if measure in HIGHER_IS_BETTER else value < other


def ranked_by(settings: Mapping[str, Any]) -> str:
    """The held-out measure that says which checkpoint of a run is the best, by the run's flat settings."""
    by = settings.get("checkpoint.best_by")
    return by if by in MEASURES else "si_sdr"


def held_out(state: Mapping[str, Any]) -> dict[str, float]:
    """The finite held-out values in the state of a checkpoint, by measure; of older versions SI-SDR alone."""
    found = state.get(VALUES)
    found = found if isinstance(found, dict) else {"si_sdr": state.get(OLDER)}
    return {name: float(value) for name, value in found.items() if name in MEASURES and _is_finite(value)}


@dataclass(frozen=True)
class Until:
    """When a run ends before its last step: `steps` steps after the best value of a held-out measure."""

    measure: str
    steps: int

    @classmethod
    def parse(cls, text: str) -> "Until | None":
        """The setting `until`; None where it is empty.

        Raises:
            ValueError: if the text is not MEASURE:STEPS.
        """
        if not text:
            return None
        measure, _, steps = text.partition(":")
        if measure in MEASURES and steps.isascii() and steps.isdigit() and 0 < int(steps[:19]) < 2**53:
            return cls(measure, int(steps[:19]))
        raise ValueError(
            f"until is {text!r}: write MEASURE:STEPS with a number of steps above 0, such as mel:20000; "
            f"measures are {', '.join(MEASURES)}"
        )


@dataclass
class Patience:
    """The best value of the measure of `until` so far; part of a checkpoint.

    Attributes:
        measure: The measure; empty before the first value.
        best: Its best value in this phase of the training.
        step: The step of the best value.
        newest: The step of the newest evaluation.
        phase: Whether the values are those of the adversarial phase.
    """

    measure: str = ""
    best: float = math.nan
    step: int = 0
    newest: int = 0
    phase: bool = False

    def note(self, measure: str, step: int, value: float | None, phase: bool) -> None:
        """Takes the result of an evaluation; another measure or a change of phase begins anew.

        Args:
            measure: The measure of `until`.
            step: Optimizer steps done.
            value: Its value; None where it could not be measured, which is no improvement.
            phase: Whether the step is in the adversarial phase.
        """
        if self.measure and (measure, phase) != (self.measure, self.phase):
            self.measure = ""
        if value is not None and (not self.measure or better(measure, value, self.best)):
            self.measure, self.best, self.step, self.phase = measure, value, step, phase
        self.newest = step

    def over(self, until: Until | None) -> bool:
        """Whether a run with this setting ends at the newest evaluation."""
        return until is not None and until.measure == self.measure and self.newest - self.step >= until.steps

    def reason(self, until: Until) -> str:
        """Why the run ends, in words."""
        return (
            f"{until.measure} has not improved for {until.steps:,} steps (best {self.best:.4g} at step {self.step:,})"
        )

    def to_state(self) -> dict[str, Any]:
        """The entry of a checkpoint."""
        return asdict(self)

    @classmethod
    def from_state(cls, content: Any) -> "Patience":
        """The entry of a checkpoint; without a valid one, as in older versions, nothing is known."""
        content = content if isinstance(content, dict) else {}
        measure, best, step, newest = (content.get(name) for name in ("measure", "best", "step", "newest"))
        known = measure in MEASURES and _is_finite(best)
        if not known or not all(type(count) is int and count >= 0 for count in (step, newest)):
            return cls()
        return cls(measure, float(best), step, newest, content.get("phase") is True)


def _is_finite(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) < 1e300
