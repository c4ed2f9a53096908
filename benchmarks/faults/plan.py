"""The kinds of fault, and a plan of faults that depends on a seed only."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

# Steps between checkpoints of the run.
EVERY = 10
# Steps that the run trains after W&B's process has been killed, before a stop is requested.
WITHOUT_WANDB = 20
# Steps that may pass between the planned moment of a fault and its effect.
SLACK = 15

# Of a training.
TRAINING = {
    "kill rank 0": "SIGKILL of the process that writes checkpoints",
    "kill rank 1": "SIGKILL of the other process",
    "kill all ranks": "SIGKILL of both processes",
    "kill the launcher": "SIGKILL of accelerate launch alone",
    "kill everything": "SIGKILL of launcher, ranks and W&B, like a node failure",
    "kill during a save": "SIGKILL of everything while a checkpoint is being written",
    "kill at start-up": "SIGKILL of any of the above before the first step",
    "STOP": "touch RUN_DIR/STOP",
    "TERM": "SIGTERM to the launcher",
    "disk full": "no space left in the run folder, in half of the cases for the next attempt as well",
    "cut the newest checkpoint": "SIGKILL of everything, then a file of the newest checkpoint is truncated",
    "flip a bit": "SIGKILL of everything, then a bit in the newest checkpoint is flipped",
    "kill W&B": f"SIGKILL of wandb-core, then STOP {WITHOUT_WANDB} steps later",
}
# Of an encoding.
ENCODING = {
    "kill rank 0": "SIGKILL of the process that writes the shards",
    "kill rank 1": "SIGKILL of the other one of two processes",
    "kill all ranks": "SIGKILL of all processes",
    "kill the launcher": "SIGKILL of accelerate launch alone, or of the only process",
    "kill everything": "SIGKILL of launcher and ranks, like a node failure",
    "kill during a save": "SIGKILL of everything while the shards are being written",
    "kill at start-up": "SIGKILL of any of the above before the first recording",
    "TERM": "SIGTERM to the launcher, or to the only process",
    "halt and kill": "SIGSTOP of a process, SIGKILL of it seconds later",
    "disk full": "no space left in the folder, in half of the cases for the next attempt as well",
    "cut a file": "SIGKILL of everything, then the file of an encoded recording is truncated",
    "flip a bit": "SIGKILL of everything, then a bit in such a file is flipped",
}
DAMAGING = ("cut the newest checkpoint", "cut a file", "flip a bit")
# The run can save a checkpoint before it ends.
GRACEFUL = ("STOP", "TERM", "kill the launcher", "kill W&B")

Moment = Literal["start-up", "step", "save"]


@dataclass(frozen=True)
class Fault:
    """One fault.

    Attributes:
        kind: A key of TRAINING or ENCODING.
        moment: What the attempt is doing when the fault occurs.
        steps: Steps of the attempt before the fault; of an encoding, recordings.
        fraction: In [0, 1), the position within the moment.
        where: In [0, 1), selects the process, file or byte if there is a choice.
    """

    kind: str
    moment: Moment
    steps: int
    fraction: float
    where: float


def steps_of_training(kind: str) -> tuple[int, int]:
    """The fewest and the most steps of a training before a fault.

    Damage needs a second checkpoint: a run whose only checkpoint is damaged refuses to continue.
    """
    return (2 * EVERY + 1, 4 * EVERY) if kind in DAMAGING else (1, 3 * EVERY)


def plan(
    kills: int,
    seed: int,
    kinds: Sequence[str] = tuple(TRAINING),
    steps_before: Callable[[str], tuple[int, int]] = steps_of_training,
) -> list[Fault]:
    """A plan of `kills` faults: rounds in which every kind occurs once, each round in its own random order.

    Args:
        kills: Number of faults.
        seed: Of the order and the moments.
        kinds: Keys of TRAINING or ENCODING.
        steps_before: Gives the fewest and the most steps before a fault of a kind.
    """
    rng = random.Random(seed)
    chosen: list[str] = []
    while len(chosen) < kills:
        chosen += rng.sample(list(kinds), len(kinds))
    return [_fault(kind, rng, steps_before) for kind in chosen[:kills]]


def _fault(kind: str, rng: random.Random, steps_before: Callable[[str], tuple[int, int]]) -> Fault:
    moment: Moment = {"kill at start-up": "start-up", "kill during a save": "save"}.get(kind, "step")  # type: ignore
    steps = 0 if moment == "start-up" else rng.randint(*steps_before(kind))
    return Fault(kind, moment, steps, rng.random(), rng.random())


def steps_needed(faults: Sequence[Fault]) -> int:
    """Steps of a run that does not finish before the last fault, even if no step is ever lost."""
    more = sum(fault.steps + SLACK + WITHOUT_WANDB * (fault.kind == "kill W&B") for fault in faults)
    return -(-more // EVERY) * EVERY + 2 * EVERY


def most_lost(kind: str, start: int, reached: int) -> int:
    """The largest number of steps that a fault may cost.

    Each save waits for the previous one, so the last but one is on the disk. At most one interval and the steps during
    the writing of the newest checkpoint are lost. A damaged checkpoint costs another interval, and so does a full disk,
    because a save may report it only when the next one is due. A graceful stop costs nothing.

    Args:
        kind: A key of TRAINING.
        start: The first step of the attempt; it saves every EVERY steps from there.
        reached: Its last step.
    """
    if kind in GRACEFUL:
        return 0
    in_writing = (reached - start) % EVERY
    return EVERY + in_writing + EVERY * (kind in DAMAGING or kind == "disk full")
