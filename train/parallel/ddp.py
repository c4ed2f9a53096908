"""The whole model on every process, with averaged gradients: torch's DistributedDataParallel, or a single process."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import Tensor, nn

from audiovae.trainable import Trainable
from train.optim.adamw import AdamW
from train.optim.gradient_guard import GradientGuard
from train.optim.settings import OptimConfig
from train.optim.snapshot import Snapshot
from train.parallel.engine import Engine
from train.parallel.ordered_sum import sum_in_order
from train.parallel.strategy import MOMENTS, Keep, Strategy, adamw, set_rate


class DDP(Strategy):
    """Every process holds all weights, moments and averages."""

    def __init__(self, model: nn.Module, engine: Engine, config: OptimConfig, averages: bool = True) -> None:
        self.model = model  # type: ignore[assignment]
        self._engine, self._clip = engine, config.clip
        self.gradient_guard = GradientGuard(config.explode, engine.device)
        self._parameters = dict(model.named_parameters())
        self._optimizer = adamw(model, config, AdamW)
        # Placement is named, as accelerate would import torch's tensors over several devices to choose it.
        self.wrapped: nn.Module = engine.accelerator.prepare_model(model, device_placement=True)
        sum_in_order(self.wrapped, engine)
        super().__init__(config.ema, averages)

    def accumulating(self, last: bool) -> AbstractContextManager:
        """Wraps a pass; gradients are all-reduced in the last one only."""
        return nullcontext() if last else self._engine.accelerator.no_sync(self.wrapped)

    def backward(self, loss: Tensor) -> None:
        """Adds the gradients of a loss."""
        loss.backward()

    def step(self, rate: float, refused: Tensor) -> Tensor:
        """Clips and updates; see `Strategy.step`."""
        norm, rejected = self.clip()
        self.update(rate, rejected | refused)
        return norm

    def clip(self) -> tuple[Tensor, Tensor]:
        """Clips the gradient; returns its norm before that, and whether to skip the step: scalars."""
        norm = nn.utils.clip_grad_norm_(self._parameters.values(), self._clip)
        return norm, self.gradient_guard.rejects(norm)

    def update(self, rate: float, skip: Tensor) -> None:
        """Updates the weights with the clipped gradient unless `skip`, a bool scalar, and clears the gradient.

        The optimizer reads `found_inf` on the device, so the host does not wait for the norm.
        """
        self.rate, self.skipped = rate, skip
        set_rate(self._optimizer.param_groups, rate)
        self._optimizer.found_inf = skip.float()  # type: ignore[attr-defined]
        self._optimizer.step()
        self._optimizer.zero_grad()

    def close(self) -> None:
        """Makes accelerate forget the wrapper, for which it has no public way: it would keep the weights in memory."""
        prepared = self._engine.accelerator._models
        prepared[:] = [model for model in prepared if model is not self.wrapped]

    def local_parameters(self) -> list[Tensor]:
        """All parameters."""
        return [parameter.detach() for parameter in self._parameters.values()]

    @contextmanager
    def averaged(self) -> Iterator[Trainable]:
        """The model itself; inside the block its parameters are the averages."""
        kept = [part.clone() for part in self.local_parameters()]
        was_training = self.model.training
        torch._foreach_copy_(self.local_parameters(), self._averages)
        self.model.eval()
        try:
            yield self.model
        finally:
            torch._foreach_copy_(self.local_parameters(), kept)
            self.model.train(was_training)

    @torch.no_grad()
    def gather(self, keep: Keep) -> Snapshot:
        """Copies this process's state, which is complete."""
        moments, updates = {}, 0
        for name, parameter in self._parameters.items():
            state = self._optimizer.state.get(parameter, {})
            updates = int(state["step"]) if state and not updates else updates
            for moment in MOMENTS:
                value = state[moment] if state else torch.zeros_like(parameter)
                moments[f"{moment}.{name}"] = keep(f"{moment}.{name}", value)
        return Snapshot(
            {name: keep(name, value) for name, value in self.model.state_dict().items()},
            {
                name: keep(f"average.{name}", value)
                for name, value in zip(self._parameters, self._averages, strict=bool(self._averages))
            },
            moments,
            updates,
        )

    @torch.no_grad()
    def restore(self, snapshot: Snapshot) -> None:
        """Restores the state; every process does."""
        self.model.load_state_dict(snapshot.weights)
        for name, average in zip(self._parameters, self._averages, strict=bool(self._averages)):
            average.copy_(snapshot.averages[name])
        for name, parameter in self._parameters.items():
            if not parameter.requires_grad:
                continue
            state = {moment: snapshot.moments[f"{moment}.{name}"].to(parameter, copy=True) for moment in MOMENTS}
            state["step"] = torch.tensor(float(snapshot.updates), device=parameter.device)
            self._optimizer.state[parameter] = state
