"""An exponential moving average of the weights, which evaluation and export use."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from train.schedules import ema_decay


class AveragedWeights:
    """Averages of a model's parameters; buffers (codebooks, running estimates) are taken as they are."""

    def __init__(self, model: nn.Module, longest: float) -> None:
        self.model = model
        self.longest = longest
        self.parameters = list(model.parameters())
        self.averages = [parameter.detach().clone() for parameter in self.parameters]

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Takes in the weights after optimizer step `step`."""
        torch._foreach_lerp_(self.averages, [p.detach() for p in self.parameters], 1 - ema_decay(step, self.longest))

    def state_dict(self) -> dict[str, Tensor]:
        """The model's state dict with averaged parameters."""
        state = {name: value.detach() for name, value in self.model.state_dict().items()}
        names = [name for name, _ in self.model.named_parameters()]
        return state | dict(zip(names, self.averages, strict=True))

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Takes the averages from a state dict; its buffers are ignored."""
        for (name, _), average in zip(self.model.named_parameters(), self.averages, strict=True):
            average.copy_(state[name])

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """The model holds the averages inside the block, and is in evaluation mode."""
        kept = [parameter.detach().clone() for parameter in self.parameters]
        was_training = self.model.training
        torch._foreach_copy_([p.detach() for p in self.parameters], self.averages)
        self.model.eval()
        try:
            yield
        finally:
            torch._foreach_copy_([p.detach() for p in self.parameters], kept)
            self.model.train(was_training)
