"""A run's state at one step, whole and by name: the same for any number of processes and any way to part a model."""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor


@dataclass
class Snapshot:
    """All that a run needs to go on; no random state: noise and order are functions of seed and step.

    Attributes:
        weights: The model's state dict as trained, buffers included.
        averages: Averaged parameters.
        moments: AdamW's moments of each parameter, as `exp_avg.NAME` and `exp_avg_sq.NAME`.
        updates: Optimizer updates that the moments have seen; skipped steps are not among them.
        state: Plain values: step, cursor, and valid_si_sdr when held-out chunks were measured.
    """

    weights: dict[str, Tensor]
    averages: dict[str, Tensor]
    moments: dict[str, Tensor]
    updates: int
    state: dict[str, Any] = field(default_factory=dict)

    @property
    def averaged(self) -> dict[str, Tensor]:
        """The model's state dict with averaged parameters; buffers (codebooks, running estimates) as they are."""
        return self.weights | self.averages


class HostCopies:
    """Copies of tensors in the host's memory, which is kept: only the first snapshot pays for new pages.

    So a snapshot is valid until the next one is taken. On a GPU the memory is pinned and copies run together.
    """

    def __init__(self) -> None:
        self._kept: dict[str, Tensor] = {}

    def keep(self, name: str, value: Tensor) -> Tensor:
        """A copy of the value; on a GPU it is there after `wait`."""
        kept = self._kept.get(name)
        if kept is None or kept.shape != value.shape or kept.dtype != value.dtype:
            kept = torch.empty(value.shape, dtype=value.dtype, pin_memory=value.is_cuda)
            self._kept[name] = kept
        return kept.copy_(value.detach(), non_blocking=True)

    @staticmethod
    def wait() -> None:
        """Until all copies are there."""
        if torch.cuda.is_available():
            torch.cuda.synchronize()


def discard(_name: str, value: Tensor) -> Tensor:
    """For processes that only help another one to a snapshot."""
    return value.new_empty(0)
