"""Whether a training has diverged: its outputs are not finite, or stay far louder than the recordings."""

from dataclasses import asdict, dataclass
from typing import Any

# Mean squared error over the mean square of the recordings. Silence has 1, and a new model of waveforms is below 2:
# none that learns stays above 10. Models of spectra may be above it, as their phases are estimated.
FAR = 10.0
# Evaluations in a row that may be so far off: a single one may follow from a spike that the training recovers from.
PATIENCE = 2


@dataclass
class Health:
    """What the evaluations up to a step have found; part of a checkpoint.

    Attributes:
        good: The newest step at which the model was sound.
        far: Number of newest evaluations in a row with an error above FAR.
        since: Step of the first bad evaluation of those in a row; 0 if the newest one is sound.
        diverged: Whether the training counts as diverged.
    """

    good: int = 0
    far: int = 0
    since: int = 0
    diverged: bool = False

    def note(self, step: int, finite: bool, error: float | None = None) -> bool:
        """Takes the result of an evaluation; returns whether the training counts as diverged since this one.

        Args:
            step: Optimizer steps done.
            finite: Whether all outputs were finite.
            error: Mean squared error over the mean square of the recordings; None where it was not measured. Without
                held-out recordings, infinite where the losses of training are not finite.
        """
        if finite and (error is None or error <= FAR):
            self.good, self.far, self.since, self.diverged = step, 0, 0, False
            return False
        self.far += finite
        self.since = self.since or step
        before, self.diverged = self.diverged, self.diverged or not finite or self.far >= PATIENCE
        return self.diverged and not before

    def to_state(self) -> dict[str, Any]:
        """The entry of a checkpoint."""
        return asdict(self)

    @classmethod
    def from_state(cls, content: Any, step: int) -> "Health":
        """The health in a checkpoint of a step; without a valid entry, as in older versions, it was sound."""
        content = content if isinstance(content, dict) else {}
        good, far, since = (content.get(name) for name in ("good", "far", "since"))
        if not all(type(count) is int and count >= 0 for count in (good, far, since)):
            return cls(good=step)
        return cls(good, far, since, content.get("diverged") is True)
