"""A model sharded over the processes: DeepSpeed's ZeRO stages 1 to 3."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from audiovae.trainable import Trainable
from train.errors import TrainError
from train.optim.gradient_guard import GradientGuard
from train.optim.settings import OptimConfig
from train.optim.snapshot import Snapshot
from train.parallel.engine import Engine
from train.parallel.launch_settings import ZeROSettings
from train.parallel.strategy import MOMENTS, Keep, Strategy, adamw, set_rate


def import_deepspeed() -> ModuleType:
    """Imports DeepSpeed, which is optional, without its log lines and with gloo on CPUs.

    Raises:
        TrainError: when it is not installed.
    """
    if not torch.cuda.is_available():
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
    logging.getLogger("DeepSpeed").setLevel(logging.ERROR)
    try:
        import deepspeed
    except ImportError as error:
        raise TrainError(f"--use_deepspeed needs DeepSpeed ({error}): pip install deepspeed") from None
    logging.getLogger("DeepSpeed").setLevel(logging.ERROR)
    # Its all-reduce kernel for shared memory is compiled at first use, and segments of a killed run stay in memory.
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    return deepspeed


class ZeRO(Strategy):
    """Every process holds its shard of the moments (stage 1), the gradients (2) and the weights (3).

    As with DDP, weights and moments are float32, passes run under autocast and gradients are accumulated in float32,
    so a run can switch between the two. Averages are sharded like the weights.
    """

    wrapped: Any  # DeepSpeed's engine

    def __init__(self, model: Trainable, engine: Engine, config: OptimConfig, settings: ZeROSettings) -> None:
        self._deepspeed = import_deepspeed()
        self.model = model
        self.gradient_guard = GradientGuard(config.explode, engine.device)
        self._engine, self._stage = engine, settings.stage
        self._names = [name for name, _ in model.named_parameters()]
        self.wrapped, self._zero, _, _ = self._deepspeed.initialize(
            model=model,
            optimizer=adamw(model, config),
            config=settings.config(config.clip, engine.precision, engine.world),
        )
        self._guard_gradient()
        self._start_moments()
        super().__init__(config.ema)

    @property
    def _parameters(self) -> dict[str, Any]:
        return dict(self.model.named_parameters())

    def _guard_gradient(self) -> None:
        """Adds the gradient guard: DeepSpeed itself checks only for values that are not finite.

        The optimizer inside is torch's AdamW, which skips its update if `found_inf` is set. DeepSpeed computes the
        norm, clips and then updates part by part, and only the clipping gets the norm: so the guard is called there.
        """
        clip, inner = self._zero.unscale_and_clip_grads, self._zero.optimizer
        self._judged = False
        self._refused = torch.zeros((), dtype=torch.bool, device=self._engine.device)

        def clip_and_guard(part: Any, norm: Any) -> Any:
            if not self._judged:
                whole = torch.as_tensor(norm, dtype=torch.float32, device=self._engine.device)
                self.skipped = self.gradient_guard.rejects(whole) | self._refused
                inner.found_inf = self.skipped.float()
                self._judged = True
            return clip(part, norm)

        self._zero.unscale_and_clip_grads = clip_and_guard

    def _start_moments(self) -> None:
        """Creates zero moments before the first step, so that they can be saved and restored."""
        inner = self._zero.optimizer
        parts = (
            self._zero.fp32_partitioned_groups_flat if self._stage == 3 else self._zero.single_partition_of_fp32_groups
        )
        for part in parts:
            moments = {moment: torch.zeros_like(part.data) for moment in MOMENTS}
            inner.state[part] = {"step": torch.zeros((), device=part.device), **moments}
        if self._stage < 3:
            self._zero._lazy_init_hp_params_optimizer_state()

    @contextmanager
    def accumulating(self, last: bool) -> Iterator[None]:
        """Wraps a pass; from stage 2 on, every pass reduces gradients over the processes."""
        self.wrapped.set_gradient_accumulation_boundary(last)
        yield

    def backward(self, loss: Tensor) -> None:
        """Adds the gradients of a loss."""
        self.wrapped.backward(loss)

    def step(self, rate: float, refused: Tensor) -> Tensor:
        """Clips and updates; see `Strategy.step`. If the norm is not finite, DeepSpeed skips and returns infinity."""
        self.rate, self._refused = rate, refused
        set_rate(self._zero.param_groups, rate)
        self._judged = False
        self.wrapped.step()
        norm = torch.as_tensor(self.wrapped.get_global_grad_norm(), dtype=torch.float32, device=self._engine.device)
        if not self._judged:  # DeepSpeed skipped the step
            self.skipped = self.gradient_guard.rejects(norm) | refused
        return norm

    def local_parameters(self) -> list[Tensor]:
        """All parameters; in stage 3, this process's shard of each."""
        parameters = self._parameters.values()
        return [p.ds_tensor.detach() if self._stage == 3 else p.detach() for p in parameters]

    @contextmanager
    def averaged(self) -> Iterator[Trainable]:
        """A separate model, which exists as long as the block: it is whole, so its passes need no other process."""
        whole = self.model.unloaded().to(self._engine.device)
        buffers = self._buffers()
        whole.load_state_dict({**buffers, **dict(zip(self._names, self._whole_averages(), strict=True))})
        yield whole.eval()

    def _whole_averages(self) -> Iterator[Tensor]:
        for parameter, part in zip(self._parameters.values(), self._averages, strict=True):
            yield part if self._stage < 3 else self._whole(part, parameter)

    @torch.no_grad()
    def gather(self, keep: Keep) -> Snapshot:
        """Gathers one parameter at a time: only that one is whole on every process."""
        weights = {name: keep(name, value) for name, value in self._buffers().items()}
        moments = {}
        for name, parameter in self._parameters.items():
            weights[name] = keep(name, self._read(parameter))
            for moment in MOMENTS:
                moments[f"{moment}.{name}"] = keep(f"{moment}.{name}", self._read(parameter, moment))
        averages = zip(self._names, self._whole_averages(), strict=True)
        state = next(iter(self._zero.optimizer.state.values()))
        return Snapshot(
            weights, {name: keep(f"average.{name}", value) for name, value in averages}, moments, int(state["step"])
        )

    @torch.no_grad()
    def restore(self, snapshot: Snapshot) -> None:
        """Restores the state; every process takes its shards."""
        # Models fill in buffers that older checkpoints do not have.
        buffers = {name: snapshot.weights[name] for name in self._buffers() if name in snapshot.weights}
        self.model.load_state_dict(buffers, strict=False)
        for (name, parameter), average in zip(self._parameters.items(), self._averages, strict=True):
            value = snapshot.weights[name].to(self._engine.device)
            # First the copy that passes use, then the float32 copy that the optimizer updates.
            with self._deepspeed.zero.GatheredParameters([parameter], modifier_rank=0):
                parameter.copy_(value)
            self._write(parameter, value)
            for moment in MOMENTS:
                self._write(parameter, snapshot.moments[f"{moment}.{name}"].to(value), moment)
            average.copy_(
                snapshot.averages[name] if self._stage < 3 else self._part(snapshot.averages[name], parameter)
            )
        for state in self._zero.optimizer.state.values():
            state["step"].fill_(snapshot.updates)

    def _buffers(self) -> dict[str, Tensor]:
        """The buffers of the model's state dict: without those that follow from its settings."""
        kept = self.model.state_dict().keys()
        return {name: value for name, value in self.model.named_buffers() if name in kept}

    def _read(self, parameter: Any, moment: str | None = None) -> Tensor:
        """A parameter's weights, or one of its moments, whole."""
        utils = self._deepspeed.utils
        if not parameter.requires_grad:  # unknown to the optimizer
            weights = parameter if self._stage < 3 else self._whole(parameter.ds_tensor, parameter)
            return torch.zeros_like(weights) if moment else weights
        if self._stage < 3:
            if moment:
                return utils.safe_get_full_optimizer_state(parameter, moment)
            return utils.safe_get_full_fp32_param(parameter)
        # DeepSpeed's functions for whole tensors do not remove the padding of the last shard.
        if moment:
            return self._whole(utils.safe_get_local_optimizer_state(parameter, moment), parameter)
        return self._whole(utils.safe_get_local_fp32_param(parameter), parameter)

    def _write(self, parameter: Any, value: Tensor, moment: str | None = None) -> None:
        """Writes this process's shard of a parameter's weights, or of one of its moments."""
        utils = self._deepspeed.utils
        if not parameter.requires_grad:
            return
        if self._stage < 3:
            if moment:
                utils.safe_set_full_optimizer_state(parameter, value, moment)
            else:
                utils.safe_set_full_fp32_param(parameter, value)
        elif moment:
            utils.safe_set_local_optimizer_state(parameter, self._part(value, parameter), moment)
        else:
            utils.safe_set_local_fp32_param(parameter, self._part(value, parameter))

    def _whole(self, part: Tensor, parameter: Any) -> Tensor:
        """Stage 3: the shards of all processes as one tensor."""
        parts = self._engine.all_parts(part.to(self._engine.device))
        return parts.flatten()[: parameter.ds_numel].view(parameter.ds_shape)

    def _part(self, whole: Tensor, parameter: Any) -> Tensor:
        """Stage 3: this process's shard of a whole tensor; all have one length, the last is padded with zeros."""
        size = parameter.ds_tensor.numel()
        filled = torch.nn.functional.pad(whole.flatten(), (0, size * self._engine.world - whole.numel()))
        return filled[size * self._engine.rank : size * (self._engine.rank + 1)]

    def close(self) -> None:
        """Removes DeepSpeed's hooks and streams."""
        self.wrapped.destroy()
