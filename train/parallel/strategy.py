"""The interface of the training loop to DDP and ZeRO."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn

from audiovae.models.parts import is_within
from audiovae.trainable import Trainable
from train.optim.gradient_guard import GradientGuard
from train.optim.schedules import ema_decay
from train.optim.settings import OptimConfig, factors_of
from train.optim.snapshot import Snapshot

# Keys of the moments in torch's AdamW state.
MOMENTS = ("exp_avg", "exp_avg_sq")
# Key of an optimizer's group for its factor on the learning rate.
FACTOR = "factor"

# Stores a tensor under a name. Every process calls it for every tensor; only one of them keeps the values.
Keep = Callable[[str, Tensor], Tensor]


class Strategy(ABC):
    """A model, its averaged weights and its optimizer on all processes. All processes make the same calls.

    Attributes:
        model: The model itself: for its methods and attributes, not for training passes.
        wrapped: The module for training passes.
        rate: The learning rate of the last step.
        skipped: Whether the last step was skipped: bool scalar, the same on all processes.
        gradient_guard: Decides which steps are skipped.
    """

    model: Trainable
    wrapped: nn.Module
    rate: float = 0.0
    skipped: Tensor
    gradient_guard: GradientGuard

    def __init__(self, max_decay: float, averages: bool = True) -> None:
        """Starts the averages at the weights. Subclasses call it when `local_parameters` works.

        Args:
            max_decay: The decay that the averages reach.
            averages: Whether there are averages.
        """
        self._max_decay = max_decay
        self._averages = [part.clone() for part in self.local_parameters()] if averages else []

    @abstractmethod
    def accumulating(self, last: bool) -> AbstractContextManager:
        """Wraps one forward and backward pass of a step; gradients are all-reduced in the last one at the latest."""

    @abstractmethod
    def backward(self, loss: Tensor) -> None:
        """Adds the gradients of a loss, divided by the number of processes."""

    @abstractmethod
    def step(self, rate: float, refused: Tensor) -> Tensor:
        """Clips the gradient and updates the weights with learning rate `rate`.

        If the norm is not finite or the gradient guard rejects it, weights and moments stay as they are, on all
        processes; and so they do if `refused`, a bool scalar that is the same on all of them.

        Returns:
            The gradient's norm before clipping, the same on all processes: float scalar.
        """

    @abstractmethod
    def local_parameters(self) -> list[Tensor]:
        """This process's part of each parameter."""

    @abstractmethod
    def averaged(self) -> AbstractContextManager[Trainable]:
        """Yields the whole model with averaged weights in evaluation mode, on every process."""

    @abstractmethod
    def gather(self, keep: Keep) -> Snapshot:
        """The complete state, each tensor as `keep` returned it, without the plain values in `Snapshot.state`."""

    @abstractmethod
    def restore(self, snapshot: Snapshot) -> None:
        """Restores a state that `gather` returned, on any number of processes and with any strategy."""

    def close(self) -> None:  # noqa: B027 - most strategies have nothing to release
        """Releases resources other than torch's."""

    @torch.no_grad()
    def update_average(self, step: int) -> None:
        """Updates the moving average with the weights after optimizer step `step`."""
        torch._foreach_lerp_(self._averages, self.local_parameters(), 1 - ema_decay(step, self._max_decay))


def adamw(
    model: nn.Module, config: OptimConfig, kind: type[torch.optim.AdamW] = torch.optim.AdamW
) -> torch.optim.AdamW:
    """The optimizer of every strategy: torch's fused AdamW, one group for each factor on the learning rate."""
    factors = factors_of(config.part_lr)
    groups: dict[float, list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            own = max((part for part in factors if is_within(name, part)), key=len, default="")
            groups.setdefault(factors.get(own, 1.0), []).append(parameter)
    return kind(
        [{"params": parameters, FACTOR: factor} for factor, parameters in groups.items()],
        lr=config.lr,
        betas=config.betas,
        weight_decay=config.weight_decay,
        fused=True,
    )


def set_rate(groups: list[dict[str, Any]], rate: float) -> None:
    """Sets the learning rate of an optimizer's groups, times the factor of each."""
    for group in groups:
        group["lr"] = rate * group[FACTOR]
