"""A model in parts: DeepSpeed's ZeRO stages 1 to 3."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from audiovae import Autoencoder
from train.config import OptimConfig
from train.errors import TrainError
from train.optim.gradient_guard import GradientGuard
from train.optim.snapshot import Snapshot
from train.parallel.engine import Engine
from train.parallel.launch_settings import ZeROSettings
from train.parallel.strategy import MOMENTS, Keep, Strategy, adamw


def import_deepspeed() -> ModuleType:
    """The library, which is an extra, quiet and with gloo on CPUs."""
    if not torch.cuda.is_available():
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
    logging.getLogger("DeepSpeed").setLevel(logging.ERROR)
    try:
        import deepspeed
    except ImportError as error:
        raise TrainError(f"--use_deepspeed needs DeepSpeed ({error}): pip install deepspeed") from None
    logging.getLogger("DeepSpeed").setLevel(logging.ERROR)
    # Its kernel for all-reduce in shared memory is compiled at first use, and a killed run's segments outlive it.
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    return deepspeed


class ZeRO(Strategy):
    """Every process holds its part of the moments (stage 1), of the gradients (2), of the weights (3).

    Weights and moments are float32, passes run under autocast, gradients are added up in float32: what DDP does, so
    that a run may change between the two. Averages are parted as the weights are.
    """

    wrapped: Any  # DeepSpeed's engine

    def __init__(self, model: Autoencoder, engine: Engine, config: OptimConfig, settings: ZeROSettings) -> None:
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
        """DeepSpeed looks for values that are not finite alone; torch's AdamW skips what `found_inf` says.

        Between the norm and the update of each of its parts there is only the clipping, which knows the norm.
        """
        clip, inner = self._zero.unscale_and_clip_grads, self._zero.optimizer
        self._judged = False

        def clip_and_guard(part: Any, norm: Any) -> Any:
            if not self._judged:
                whole = torch.as_tensor(norm, dtype=torch.float32, device=self._engine.device)
                inner.found_inf = self.gradient_guard.rejects(whole).float()
                self._judged = True
            return clip(part, norm)

        self._zero.unscale_and_clip_grads = clip_and_guard

    def _start_moments(self) -> None:
        """Moments of zero before the first step, so that there is something to save and to restore into."""
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
        """Around a pass; from stage 2 on every pass exchanges gradients."""
        self.wrapped.set_gradient_accumulation_boundary(last)
        yield

    def backward(self, loss: Tensor) -> None:
        """Adds the gradients."""
        self.wrapped.backward(loss)

    def step(self, rate: float) -> Tensor:
        """Clips and updates; DeepSpeed skips a norm that is not finite, and then gives infinity."""
        self.rate = rate
        for group in self._zero.param_groups:
            group["lr"] = rate
        self._judged = False
        self.wrapped.step()
        norm = torch.as_tensor(self.wrapped.get_global_grad_norm(), dtype=torch.float32, device=self._engine.device)
        if not self._judged:  # DeepSpeed skipped the step
            self.gradient_guard.rejects(norm)
        return norm

    def local_parameters(self) -> list[Tensor]:
        """Every parameter, in stage 3 this process's part of it."""
        parameters = self._parameters.values()
        return [p.ds_tensor.detach() if self._stage == 3 else p.detach() for p in parameters]

    @contextmanager
    def averaged(self) -> Iterator[Autoencoder]:
        """A model of its own, whole for as long as the block lasts: its passes need no other process."""
        whole = type(self.model)(self.model.config, self.model.samples, self.model.rate).to(self._engine.device)
        buffers = dict(self.model.named_buffers())
        whole.load_state_dict({**buffers, **dict(zip(self._names, self._whole_averages(), strict=True))})
        yield whole.eval()

    def _whole_averages(self) -> Iterator[Tensor]:
        for parameter, part in zip(self._parameters.values(), self._averages, strict=True):
            yield part if self._stage < 3 else self._whole(part, parameter)

    @torch.no_grad()
    def gather(self, keep: Keep) -> Snapshot:
        """One parameter after the other, whole in every process for a moment."""
        weights = {name: keep(name, value) for name, value in self.model.named_buffers()}
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
        """Every process takes its parts."""
        # Models know what is missing in checkpoints that are older than some of their buffers.
        buffers = {name: snapshot.weights[name] for name, _ in self.model.named_buffers() if name in snapshot.weights}
        self.model.load_state_dict(buffers, strict=False)
        for (name, parameter), average in zip(self._parameters.items(), self._averages, strict=True):
            value = snapshot.weights[name].to(self._engine.device)
            # What passes use, and then what the optimizer changes.
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

    def _read(self, parameter: Any, moment: str | None = None) -> Tensor:
        """A parameter's weights, or a moment, whole."""
        utils = self._deepspeed.utils
        if self._stage < 3:
            if moment:
                return utils.safe_get_full_optimizer_state(parameter, moment)
            return utils.safe_get_full_fp32_param(parameter)
        # DeepSpeed's own way to whole tensors does not know of parts that are filled up.
        if moment:
            return self._whole(utils.safe_get_local_optimizer_state(parameter, moment), parameter)
        return self._whole(utils.safe_get_local_fp32_param(parameter), parameter)

    def _write(self, parameter: Any, value: Tensor, moment: str | None = None) -> None:
        """Takes this process's part of a parameter's weights, or of a moment."""
        utils = self._deepspeed.utils
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
        """Stage 3: the parts of all processes as one tensor."""
        parts = self._engine.all_parts(part.to(self._engine.device))
        return parts.flatten()[: parameter.ds_numel].view(parameter.ds_shape)

    def _part(self, whole: Tensor, parameter: Any) -> Tensor:
        """Stage 3: what this process holds of a whole tensor; parts are of one length, the last one filled up."""
        size = parameter.ds_tensor.numel()
        filled = torch.nn.functional.pad(whole.flatten(), (0, size * self._engine.world - whole.numel()))
        return filled[size * self._engine.rank : size * (self._engine.rank + 1)]

    def close(self) -> None:
        """Ends DeepSpeed's own hooks and streams."""
        self.wrapped.destroy()
