"""The processes of a run, and what they exchange."""

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

from audiovae import ModelError, Statistics
from shards import DataError
from train.errors import LaunchError, LostPeerError, TrainError, TransientError
from train.parallel.launch_environment import (
    launch_problem,
    nobody_came,
    rank_in,
    told_when_waiting,
    unsupported,
    words_of_launcher,
)

# A rank that waits longer for another rank treats it as lost.
COLLECTIVE_TIMEOUT = timedelta(minutes=10)
# The limit while rank 0 reads or writes for all on a file system that may be slow. If rank 0 ends, the others notice
# at once.
DISK_TIMEOUT = timedelta(hours=2)
# How long the first process waits at the end for the last one.
LEAVING = timedelta(seconds=30)
LOST = "another process of this run ended; run the same command to resume from the last checkpoint"

# The key in the processes' store that says that one was asked to stop, and how long to wait for the store.
STOP_KEY, STORE_TIMEOUT = "audio-train/stop", timedelta(seconds=5)

T = TypeVar("T")


def launched_rank() -> int:
    """This process's rank, also before the processes have met: for errors that only one rank should print."""
    return rank_in(os.environ)


def is_lost_peer(error: BaseException) -> bool:
    """Whether an error means that another process has ended; gloo and NCCL have no exception type for this."""
    known = ("closed by peer", "reset by peer", "Broken pipe", "Timed out waiting", "communicator was aborted")
    return isinstance(error, dist.DistError) or (
        isinstance(error, RuntimeError) and any(words in str(error) for words in known)
    )


@contextmanager
def lost_peers_reported() -> Iterator[None]:
    """Turns errors caused by the loss of another process into a LostPeerError of one line."""
    try:
        yield
    except RuntimeError as error:
        if is_lost_peer(error):
            raise LostPeerError(LOST) from None
        raise


class StoreNotice:
    """Where the processes of a run tell each other of a stop: a key in the store at which they met.

    It has a connection of its own, for use in a thread beside collectives.

    The launcher or rank 0 holds the store. When it is gone, nothing is posted any more.
    """

    def __init__(self) -> None:
        self._store = dist.TCPStore(
            os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), is_master=False, timeout=STORE_TIMEOUT
        )

    def post(self) -> None:
        """Tells the other processes that one was asked to stop."""
        with suppress(RuntimeError):
            self._store.set(STOP_KEY, "1")

    def posted(self) -> bool:
        """Whether a process was asked to stop, as far as this one can know."""
        with suppress(RuntimeError):
            return bool(self._store.check([STOP_KEY]))
        return False


class Engine:
    """This process among the processes of a run, its device, and the collectives.

    Attributes:
        rank: This process's number, from 0.
        world: Number of processes.
        local_world: Number of processes on this node.
        device: This process's device.
        precision: "no" or "bf16".
        launch: The environment variables that the launcher set.
        notice: Tells the other processes of a stop, and hears of theirs; None if there are none.

    Raises:
        LaunchError: when the environment promises processes that do not come.
        TrainError: when the launch does not fit the machine or this program.
    """

    def __init__(self) -> None:
        if problem := launch_problem(os.environ):
            raise LaunchError(problem)
        if problem := unsupported(os.environ, words_of_launcher()):
            raise TrainError(problem)
        on_cpu = not torch.cuda.is_available()
        local = self.local_world = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
        if 0 < torch.cuda.device_count() < local:
            raise TrainError(
                f"{local} processes for {torch.cuda.device_count()} GPU(s): launch with "
                f"--num_processes {torch.cuda.device_count()}"
            )
        # DeepSpeed uses the process groups made here. With this variable set, accelerate would make groups for it.
        self.launch = dict(os.environ)
        os.environ.pop("ACCELERATE_USE_DEEPSPEED", None)
        timeout = InitProcessGroupKwargs(timeout=COLLECTIVE_TIMEOUT)
        try:
            with told_when_waiting(os.environ):
                self.accelerator = Accelerator(cpu=on_cpu, kwargs_handlers=[timeout])
        except dist.DistError as error:
            raise LaunchError(f"{nobody_came(os.environ)} ({str(error).splitlines()[0]})") from None
        promised = int(os.environ.get("WORLD_SIZE", "1"))
        if self.accelerator.num_processes != promised:
            raise TrainError(
                f"the launcher started {promised} processes, but {self.accelerator.num_processes} connected: "
                "launch with --config_file accelerate_config.yaml and without --cpu"
            )
        self.rank = self.accelerator.process_index
        self.world = self.accelerator.num_processes
        self.device = self.accelerator.device
        self.precision = self.accelerator.mixed_precision
        if self.precision == "fp16":
            # Its loss scale would have to be part of every checkpoint, and narrow posteriors underflow.
            raise TrainError("fp16 is not supported: launch with --mixed_precision bf16, or no")
        if on_cpu:
            # Launchers set one thread for each process; divide the cores that this job may use instead.
            torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) // local))
        # Control messages use gloo on the CPU, so that asking whether to stop never waits for the GPU.
        self._control_group = dist.new_group(backend="gloo", timeout=COLLECTIVE_TIMEOUT) if self.world > 1 else None
        self._disk_group = dist.new_group(backend="gloo", timeout=DISK_TIMEOUT) if self.world > 1 else None
        self.notice = StoreNotice() if self.world > 1 else None
        self._vote: tuple[Any, Tensor] | None = None
        logging.getLogger("torch.distributed").setLevel(logging.ERROR)

    @property
    def is_main(self) -> bool:
        """Whether this is rank 0, the process that writes files and prints."""
        return self.rank == 0

    def device_for(self, wanted: str) -> str:
        """The device that a command's --device means for this process: with `auto` and `cuda` its own."""
        if wanted in ("auto", self.device.type):
            return str(self.device) if self.device.type == "cuda" else "cpu"
        return wanted

    def autocast(self) -> AbstractContextManager:
        """Autocast to the launch's precision, for passes outside the wrapped model."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16")

    def sum(self, values: dict[str, Tensor]) -> dict[str, Tensor]:
        """Sums each tensor over all processes with one all-reduce in float32; tensors keep their shapes."""
        if self.world == 1 or not values:
            return values
        flat = torch.cat([value.detach().float().reshape(-1) for value in values.values()])
        dist.all_reduce(flat)
        parts = flat.split([value.numel() for value in values.values()])
        return {name: part.view(value.shape) for (name, value), part in zip(values.items(), parts, strict=True)}

    def all_parts(self, part: Tensor) -> Tensor:
        """Gathers a part [n] from each process: [world, n] in the order of ranks."""
        if self.world == 1:
            return part.unsqueeze(0)
        parts = [torch.empty_like(part) for _ in range(self.world)]
        dist.all_gather(parts, part)
        return torch.stack(parts)

    def join(self, statistics: Statistics, rows: Tensor, batch: int) -> Statistics:
        """The statistics of the whole global batch on every process: sums added, items in the order of its rows.

        Args:
            statistics: This process's part; items are [n, ...].
            rows: Rows of its items in the global batch, [n] int64.
            batch: Number of rows of the global batch.
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
        """Whether any process wanted to stop at the call before: the same answer on all processes, without waiting.

        The all-reduce of this call's votes runs in the background until the next call. One process alone gets its
        own vote at once.
        """
        if self._control_group is None:
            return here
        before, self._vote = self._vote, None
        ballot = torch.tensor([int(here)])
        self._vote = (dist.all_reduce(ballot, dist.ReduceOp.MAX, self._control_group, async_op=True), ballot)
        if before is None:
            return False
        before[0].wait()
        return bool(before[1].item())

    def any(self, here: bool) -> bool:
        """Whether `here` is true on any process: the same answer on all, which wait for each other."""
        if self._control_group is None:
            return here
        ballot = torch.tensor([int(here)])
        dist.all_reduce(ballot, dist.ReduceOp.MAX, self._control_group)
        return bool(ballot.item())

    def largest(self, here: float) -> float:
        """The largest of all processes' values: the same on all, which wait for each other."""
        if self._control_group is None:
            return here
        value = torch.tensor([here], dtype=torch.float64)
        dist.all_reduce(value, dist.ReduceOp.MAX, self._control_group)
        return float(value.item())

    def share(self, value: Any) -> Any:
        """Sends rank 0's value to every process: plain data only. The other processes wait up to DISK_TIMEOUT."""
        if self._disk_group is None:
            return value
        box = [value if self.is_main else None]
        dist.broadcast_object_list(box, src=0, group=self._disk_group)
        return box[0]

    def send(self, value: Tensor) -> Tensor:
        """Sends rank 0's tensor in host memory into a tensor of the same shape and type on every other process."""
        if self._disk_group is not None and value.numel():
            dist.broadcast(value.view(-1).view(torch.uint8), src=0, group=self._disk_group)
        return value

    def on_main(self, action: Callable[[], T], pause: Callable[[], AbstractContextManager] = nullcontext) -> T:
        """Runs an action on rank 0 and returns its result on every process; raises its errors on every process.

        Args:
            action: What to run.
            pause: A context that is entered on rank 0 during the action, and on the other processes while they
                wait for it: the watchdog's pause. Rank 0 then sends its result outside the context, as the others
                are already waiting for it.

        Raises:
            TrainError: when the action raised it, a DataError or a ModelError.
            TransientError: when the action raised it, or an OSError.
        """
        result, problem, transient = None, None, False
        if self.is_main:
            try:
                with pause():
                    result = action()
            except (TrainError, DataError, ModelError, OSError) as error:
                problem, transient = str(error), isinstance(error, TransientError | OSError)
        with nullcontext() if self.is_main else pause():
            result, problem, transient = self.share((result, problem, transient))
        if problem:
            raise (TransientError if transient else TrainError)(problem)
        return result

    def everywhere(self, action: Callable[[], T]) -> T:
        """Runs an action on every process and waits until all have ended; raises the first error on all of them.

        Processes wait for each other up to DISK_TIMEOUT.
        """
        result, problem = None, None
        try:
            result = action()
        except (TrainError, DataError, ModelError, OSError) as error:
            problem = str(error)
        if found := self.first(problem):
            raise TrainError(found)
        return result  # type: ignore[return-value]

    def first(self, text: str | None) -> str | None:
        """The first text of any process, in the order of ranks, on all of them; None when none has one."""
        texts = [text]
        if self._disk_group is not None:
            texts = [None] * self.world
            dist.all_gather_object(texts, text, group=self._disk_group)
        return next(filter(None, texts), None)

    def wait_for_all(self) -> None:
        """Waits until all processes are here: a process that leaves early may cut off messages to the others.

        This is no collective, because a collective returns on some processes before others have its last message.
        """
        if self.world > 1:
            store = dist.distributed_c10d._get_default_store()
            with suppress(RuntimeError):  # the process that holds the store may leave as soon as all are here
                store.set(f"here-{self.rank}", "1")
                store.wait([f"here-{rank}" for rank in range(self.world)], LEAVING)

    def close(self) -> None:
        """Leaves the process groups."""
        with suppress(RuntimeError):  # another process has ended
            if self._vote is not None:
                self._vote[0].wait()
        if dist.is_initialized():
            dist.destroy_process_group()
