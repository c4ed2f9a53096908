"""The processes of a run and what they say to each other."""

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from accelerate import Accelerator
from accelerate.utils import InitProcessGroupKwargs
from torch import Tensor

from audiovae import Statistics
from shards import DataError
from train.errors import LostPeerError, TrainError, TransientError

# A rank that waits longer than this for another one has lost it.
COLLECTIVE_TIMEOUT = timedelta(minutes=10)
# While rank 0 writes or reads for all, on a file system that may be slow; the others notice its end at once.
DISK_TIMEOUT = timedelta(hours=2)
# The most that processes differ in when they end.
LEAVING = timedelta(seconds=30)
LOST = "another process of this run ended, for a reason of its own; the same command goes on from the last checkpoint"

T = TypeVar("T")


def launched_rank() -> int:
    """This process's rank before anything is initialised: for errors that only one rank should print."""
    return int(os.environ.get("RANK", "0"))


def is_lost_peer(error: BaseException) -> bool:
    """Whether an error means that another process has ended: gloo and NCCL have no type of their own for it."""
    known = ("closed by peer", "reset by peer", "Broken pipe", "Timed out waiting", "communicator was aborted")
    return isinstance(error, dist.DistError) or (
        isinstance(error, RuntimeError) and any(words in str(error) for words in known)
    )


@contextmanager
def lost_peers_reported() -> Iterator[None]:
    """Turns the errors that the loss of another process raises into one line."""
    try:
        yield
    except RuntimeError as error:
        if is_lost_peer(error):
            raise LostPeerError(LOST) from None
        raise


class Engine:
    """Processes, devices and what they exchange.

    Attributes:
        rank, world: This process and how many there are.
        local_world: Processes on this node.
        device: Where its model lives.
        precision: "no" or "bf16".
        launch: What the launcher said, as environment variables.
    """

    def __init__(self) -> None:
        on_cpu = not torch.cuda.is_available()
        local = self.local_world = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
        if 0 < torch.cuda.device_count() < local:
            raise TrainError(
                f"{local} processes for {torch.cuda.device_count()} GPU(s): launch with "
                f"--num_processes {torch.cuda.device_count()}"
            )
        # DeepSpeed joins the processes that stand here: accelerate would set up others for it.
        self.launch = dict(os.environ)
        os.environ.pop("ACCELERATE_USE_DEEPSPEED", None)
        self.accelerator = Accelerator(cpu=on_cpu, kwargs_handlers=[InitProcessGroupKwargs(timeout=COLLECTIVE_TIMEOUT)])
        promised = int(os.environ.get("WORLD_SIZE", "1"))
        if self.accelerator.num_processes != promised:
            raise TrainError(
                f"the launcher promised {promised} processes, but {self.accelerator.num_processes} met: "
                "launch with --config_file accelerate_config.yaml and without --cpu"
            )
        self.rank = self.accelerator.process_index
        self.world = self.accelerator.num_processes
        self.device = self.accelerator.device
        self.precision = self.accelerator.mixed_precision
        if self.precision == "fp16":
            # Its loss scale would have to be part of every checkpoint, and small posteriors underflow in it.
            raise TrainError("fp16 is not supported: launch with --mixed_precision bf16, or no")
        if on_cpu:
            # Launchers set one thread a process; share out the cores that this job may use.
            torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) // local))
        # Control messages go over the CPU, so that asking whether to stop never waits for the GPU.
        self._control = dist.new_group(backend="gloo", timeout=COLLECTIVE_TIMEOUT) if self.world > 1 else None
        self._patient = dist.new_group(backend="gloo", timeout=DISK_TIMEOUT) if self.world > 1 else None
        self._vote: tuple[Any, Tensor] | None = None
        logging.getLogger("torch.distributed").setLevel(logging.ERROR)

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and speaks."""
        return self.rank == 0

    def autocast(self) -> AbstractContextManager:
        """The precision chosen at launch, for passes outside the wrapped model."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16")

    def sum(self, values: dict[str, Tensor]) -> dict[str, Tensor]:
        """Each tensor added up over all processes, in one exchange; float32."""
        if self.world == 1 or not values:
            return values
        flat = torch.cat([value.detach().float().reshape(-1) for value in values.values()])
        dist.all_reduce(flat)
        parts = flat.split([value.numel() for value in values.values()])
        return {name: part.view(value.shape) for (name, value), part in zip(values.items(), parts, strict=True)}

    def all_parts(self, part: Tensor) -> Tensor:
        """The parts [n] of all processes in their order: [world, n]."""
        if self.world == 1:
            return part.unsqueeze(0)
        parts = [torch.empty_like(part) for _ in range(self.world)]
        dist.all_gather(parts, part)
        return torch.stack(parts)

    def join(self, statistics: Statistics, rows: Tensor, batch: int) -> Statistics:
        """The statistics of the whole global batch on every process, items in the order of its rows.

        Args:
            statistics: This process's part, items [n, ...].
            rows: [n] int64, the rows of its items in the global batch.
            batch: Rows of the global batch.
        """
        placed = {}
        for name, value in statistics.items.items():
            placed[name] = value.new_zeros(batch, *value.shape[1:]).index_copy_(0, rows, value)
        whole = self.sum(
            {**{f"s.{k}": v for k, v in statistics.sums.items()}, **{f"i.{k}": v for k, v in placed.items()}}
        )
        return Statistics(
            {k[2:]: v for k, v in whole.items() if k.startswith("s.")},
            {k[2:]: v for k, v in whole.items() if k.startswith("i.")},
        )

    def any_wants_to_stop(self, here: bool) -> bool:
        """Whether some process wanted to stop one step ago: the same answer everywhere, without waiting."""
        if self._control is None:
            return here
        before, self._vote = self._vote, None
        ballot = torch.tensor([int(here)])
        self._vote = (dist.all_reduce(ballot, dist.ReduceOp.MAX, self._control, async_op=True), ballot)
        if before is None:
            return False
        before[0].wait()
        return bool(before[1].item())

    def share(self, value: Any) -> Any:
        """Rank 0's value on every process; plain data only. It may take long."""
        if self._patient is None:
            return value
        box = [value if self.is_main else None]
        dist.broadcast_object_list(box, src=0, group=self._patient)
        return box[0]

    def on_main(self, action: Callable[[], T], unhurried: Callable[[], AbstractContextManager] = nullcontext) -> T:
        """Does something on rank 0 alone and returns its result everywhere; its errors are raised everywhere.

        Args:
            action: What to do.
            unhurried: Entered around what may take any time: the action, and waiting for it in the other processes.
                Rank 0 then meets them outside of it: they have had nothing else to do.
        """
        result, problem, passing = None, None, False
        if self.is_main:
            try:
                with unhurried():
                    result = action()
            except (TrainError, OSError) as error:
                problem, passing = str(error), isinstance(error, TransientError | OSError)
        with nullcontext() if self.is_main else unhurried():
            result, problem, passing = self.share((result, problem, passing))
        if problem:
            raise (TransientError if passing else TrainError)(problem)
        return result

    def everywhere(self, action: Callable[[], T]) -> T:
        """Does something on every process, which may take long; the error of one is raised on all.

        No process goes on before all have ended theirs.
        """
        result, problem = None, None
        try:
            result = action()
        except (TrainError, DataError, OSError) as error:
            problem = str(error)
        problems = [problem]
        if self._patient is not None:
            problems = [None] * self.world
            dist.all_gather_object(problems, problem, group=self._patient)
        if found := next(filter(None, problems), None):
            raise TrainError(found)
        return result  # type: ignore[return-value]

    def wait_for_all(self) -> None:
        """Until all processes have come here: who leaves first may cut off what others are still told.

        Not by a collective, in which somebody is always last to hear.
        """
        if self.world > 1:
            store = dist.distributed_c10d._get_default_store()
            with suppress(RuntimeError):  # whoever keeps the store may leave as soon as all are here
                store.set(f"here-{self.rank}", "1")
                store.wait([f"here-{rank}" for rank in range(self.world)], LEAVING)

    def close(self) -> None:
        """Leaves the group of processes."""
        with suppress(RuntimeError):  # of a process that is gone
            if self._vote is not None:
                self._vote[0].wait()
        if dist.is_initialized():
            dist.destroy_process_group()
