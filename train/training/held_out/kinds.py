"""What is measured on held-out chunks: the interface, and which kind a model takes."""

from collections.abc import Callable
from typing import Protocol

from torch import Tensor

from audiovae.trainable import Trainable
from shards import Split
from train.parallel.engine import Engine
from train.tracking.media import Media

# By measure, a sum and a count [2] of the chunks of one process; other tensors add up over the processes as they are.
Sums = dict[str, Tensor]
Heartbeat = Callable[[], None]


class HeldOut(Protocol):
    """Measures of one kind of models on held-out chunks. All processes make the same calls."""

    def share(self, model: Trainable, split: Split, heartbeat: Heartbeat) -> Sums:
        """This process's part of the measurement; no collective.

        Args:
            model: The whole model in evaluation mode.
            split: The held-out chunks.
            heartbeat: Called after each batch.
        """

    def values(self, sums: Sums, engine: Engine) -> dict[str, float]:
        """The values by measure from the sums of all processes: what is logged, and `not_finite`, a share."""

    def error(self, values: dict[str, float]) -> float | None:
        """The error by which a training counts as diverged, see `Health.note`; None if there is no such measure."""

    def line(self, values: dict[str, float]) -> str:
        """The values as one line for people."""

    def examples(self, model: Trainable, split: Split) -> tuple[Media | None, dict[str, float]]:
        """What the tracker shows, and values that are only measured then. One process calls it."""
