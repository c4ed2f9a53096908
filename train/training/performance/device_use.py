"""What a run makes of its GPUs: model FLOPs utilisation, memory, and GPU hours over all attempts."""

import time

import torch

from audiovae.trainable import Trainable
from train.optim.objective import Objective
from train.parallel.engine import Engine
from train.process.output_streams import write_stderr
from train.training.performance.flops import flops_of_chunk
from train.training.performance.peaks import peak_flops


def flops_for_mfu(model: Trainable, objective: Objective, engine: Engine) -> float | None:
    """FLOPs of a chunk, on rank 0 of a run on GPUs whose peak is known; None elsewhere. Call it before the model is
    sharded or compiled.
    """
    if not engine.is_main or engine.device.type != "cuda" or peak_here(engine) is None:
        return None
    try:
        return flops_of_chunk(model, objective)
    except Exception as error:  # counting runs the model in a way that a new part of it may not support
        why = (str(error) or type(error).__name__).splitlines()[0]
        write_stderr(f"warning: perf/mfu is not logged: FLOPs could not be counted ({why})")
        return None


def peak_here(engine: Engine) -> float | None:
    """FLOP/s of this process's device in the run's precision; None if not known."""
    return peak_flops(torch.cuda.get_device_name(engine.device), engine.precision)


class DeviceUse:
    """Values of the log about the GPUs of a run; there are none on CPUs.

    Args:
        engine: The processes.
        flops: FLOPs of a chunk, forward and backward; None for no model FLOPs utilisation.

    Attributes:
        flops: The same.
        earlier_s: GPU seconds of the attempts before this one, up to the checkpoint that it resumed from.
    """

    def __init__(self, engine: Engine, flops: float | None) -> None:
        self._engine, self.flops = engine, flops
        self._began = time.monotonic()
        self.earlier_s = 0.0

    @property
    def seconds(self) -> float | None:
        """Seconds of all GPUs in all attempts, whatever they did in them; None on CPUs."""
        if self._engine.device.type != "cuda":
            return None
        return self.earlier_s + self._engine.world * (time.monotonic() - self._began)

    def read(self, chunks_per_second: float) -> dict[str, float]:
        """The values since the last call; every process must call it.

        Args:
            chunks_per_second: Chunks that all processes trained on, by the time of training alone.
        """
        seconds = self.seconds
        if seconds is None:
            return {}
        engine = self._engine
        memory = engine.largest(torch.cuda.max_memory_allocated(engine.device) / 1e9)
        torch.cuda.reset_peak_memory_stats(engine.device)
        values = {"perf/gpu_memory_gb": memory, "perf/gpu_hours": seconds / 3600}
        if self.flops and (peak := peak_here(engine)):
            # FLOPs that the model needs, over those that the devices could do (Chowdhery et al. 2022, "PaLM").
            values["perf/mfu"] = self.flops * chunks_per_second / (peak * engine.world)
        return values
