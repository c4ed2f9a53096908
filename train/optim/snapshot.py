"""A run's complete state at one step, by parameter name: independent of how many processes share the model."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor


@dataclass
class Snapshot:
    """All that a run needs to resume. No random state: noise and data order are functions of seed and step.

    Attributes:
        weights: The model's state dict as trained, buffers included.
        averages: Averaged parameters, by name.
        moments: AdamW's moments of each parameter, as `exp_avg.NAME` and `exp_avg_sq.NAME`.
        updates: Number of updates in the moments; skipped steps do not count.
        state: Plain values: step and cursor; valid and valid_si_sdr if held-out chunks were measured; patience with
            the setting `until`; gradient_norms if the gradient guard is on; skipped_in_a_row if the last step was
            skipped; gpu_seconds of all attempts on GPUs.
        discriminator: In the adversarial phase, the discriminator's weights, moments and updates; it has no averages.
    """

    weights: Mapping[str, Tensor]
    averages: Mapping[str, Tensor]
    moments: Mapping[str, Tensor]
    updates: int
    state: dict[str, Any] = field(default_factory=dict)
    discriminator: "Snapshot | None" = None

    @property
    def averaged(self) -> dict[str, Tensor]:
        """The model's state dict with averaged parameters, and buffers (codebooks, running estimates) as trained."""
        return {**self.weights, **self.averages}


class Settled(Mapping[str, Tensor]):
    """Weights, in which the averaged ones take the place of those named; each is fetched when it is asked for.

    Weights that no longer train need this: else their averages would go on towards them, and the finished model, which
    has the averages, would change in parts that are to stay as they are.
    """

    def __init__(self, weights: Mapping[str, Tensor], averages: Mapping[str, Tensor], names: Iterable[str]) -> None:
        self._weights, self._averages, self._names = weights, averages, {*names}

    def __getitem__(self, name: str) -> Tensor:
        return (self._averages if name in self._names else self._weights)[name]

    def __contains__(self, name: object) -> bool:
        return name in self._weights

    def __iter__(self) -> Iterator[str]:
        return iter(self._weights)

    def __len__(self) -> int:
        return len(self._weights)


class HostCopies:
    """Copies tensors into host memory that it reuses: only the first snapshot pays for new pages.

    A snapshot is therefore valid until the next one is taken. For tensors on a GPU the memory is pinned and the
    copies are asynchronous.
    """

    def __init__(self) -> None:
        self._kept: dict[str, Tensor] = {}

    def keep(self, name: str, value: Tensor) -> Tensor:
        """A copy of the value; if that is on a GPU, the copy is complete after `wait`."""
        kept = self._kept.get(name)
        if kept is None or kept.shape != value.shape or kept.dtype != value.dtype:
            kept = torch.empty(value.shape, dtype=value.dtype, pin_memory=value.is_cuda)
            self._kept[name] = kept
        return kept.copy_(value.detach(), non_blocking=True)

    @staticmethod
    def wait() -> None:
        """Waits until all copies are complete."""
        if torch.cuda.is_available():
            torch.cuda.synchronize()


def discard(_name: str, value: Tensor) -> Tensor:
    """An empty tensor: for processes that take part in gathering and keep nothing."""
    return value.new_empty(0)
