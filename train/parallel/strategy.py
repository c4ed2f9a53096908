"""What training asks of the processes that hold a model together."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager

import torch
from torch import Tensor, nn

from audiovae import Autoencoder
from train.config import OptimConfig
from train.optim.gradient_guard import GradientGuard
from train.optim.schedules import ema_decay
from train.optim.snapshot import Snapshot

# AdamW's moments, under its own names.
MOMENTS = ("exp_avg", "exp_avg_sq")


# Keeps a tensor under a name: every process calls it for every tensor, one of them stores it.
Keep = Callable[[str, Tensor], Tensor]


class Strategy(ABC):
    """A model, its averaged weights and its optimizer in all processes. All of them make the same calls.

    Attributes:
        model: The model itself: for what it knows, not for passes in training.
        wrapped: What a training pass goes through.
        rate: The learning rate of the last step.
        explosions: Decides which steps are skipped.
    """

    model: Autoencoder
    wrapped: nn.Module
    rate: float = 0.0
    explosions: GradientGuard

    def __init__(self, longest: float) -> None:
        """Starts the averages, with the decay that they reach; a strategy calls it when `held` can answer."""
        self._longest = longest
        self._averages = [part.clone() for part in self.local_parameters()]

    @abstractmethod
    def accumulating(self, last: bool) -> AbstractContextManager:
        """Around one forward and backward pass of a step; gradients are exchanged in the last one at the latest."""

    @abstractmethod
    def backward(self, loss: Tensor) -> None:
        """Adds the gradients of a loss, divided by the number of processes."""

    @abstractmethod
    def step(self, rate: float) -> Tensor:
        """Clips the gradient and updates the weights; returns the gradient's norm before, the same everywhere.

        Where the norm is not finite, or refused by `explosions`, weights and moments stay as they were, on all
        processes.
        """

    @abstractmethod
    def local_parameters(self) -> list[Tensor]:
        """What this process holds of each parameter."""

    @abstractmethod
    def averaged(self) -> AbstractContextManager[Autoencoder]:
        """A whole model with averaged weights in evaluation mode, on every process, inside the block."""

    @abstractmethod
    def gather(self, keep: Keep) -> Snapshot:
        """All tensors, whole, as `keep` returned them, without the plain values of a state."""

    @abstractmethod
    def restore(self, snapshot: Snapshot) -> None:
        """Takes in what `gather` gave, on whatever processes and by whatever strategy."""

    def close(self) -> None:  # noqa: B027 - most have nothing to let go
        """Lets go of what the strategy holds beside torch's own."""

    @torch.no_grad()
    def update_average(self, step: int) -> None:
        """Takes the weights after optimizer step `step` into their moving average."""
        torch._foreach_lerp_(self._averages, self.local_parameters(), 1 - ema_decay(step, self._longest))


def adamw(model: nn.Module, config: OptimConfig) -> torch.optim.AdamW:
    """The optimizer of every strategy."""
    return torch.optim.AdamW(
        model.parameters(), lr=config.lr, betas=config.betas, weight_decay=config.weight_decay, fused=True
    )
