"""Which attacks there are, and when each strikes: decided before anything runs, from a seed."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

# Steps between saves of the run that is attacked.
EVERY = 10
# Steps that the run makes after W&B's process is dead, before it is asked to stop.
WITHOUT_WANDB = 20
# Steps that may pass between the moment an attack is for and its effect.
SLACK = 15

KINDS = {
    "kill rank 0": "SIGKILL of the process that writes",
    "kill rank 1": "SIGKILL of the other process",
    "kill all ranks": "SIGKILL of both processes",
    "kill the launcher": "SIGKILL of accelerate launch alone",
    "kill everything": "SIGKILL of launcher, ranks and W&B, as by the loss of the node",
    "kill during a save": "SIGKILL of everything while a checkpoint is being written",
    "kill at start-up": "SIGKILL of one of the above before the first step",
    "STOP": "touch RUN_DIR/STOP",
    "TERM": "SIGTERM to the launcher",
    "disk full": "no byte of room in the run's folder, for one more attempt too in half of the cases",
    "cut the newest checkpoint": "everything is killed, a file of the newest checkpoint is truncated",
    "flip a bit": "everything is killed, a bit of a file of the newest checkpoint is flipped",
    "kill W&B": f"SIGKILL of wandb-core; STOP {WITHOUT_WANDB} steps later",
}
DAMAGING = ("cut the newest checkpoint", "flip a bit")
# These let the run save what it has.
GENTLE = ("STOP", "TERM", "kill the launcher", "kill W&B")

Moment = Literal["start-up", "step", "save"]


@dataclass(frozen=True)
class Attack:
    """One blow.

    Attributes:
        kind: A key of KINDS.
        moment: What the attempt is to be doing.
        steps: Steps that the attempt makes before.
        fraction: In [0, 1): how far into the moment.
        where: In [0, 1): which process, file or byte, where there is a choice.
    """

    kind: str
    moment: Moment
    steps: int
    fraction: float
    where: float


def plan(kills: int, seed: int, kinds: Sequence[str] = tuple(KINDS)) -> list[Attack]:
    """As many attacks as wanted: rounds in which every kind comes once, in an order of its own each."""
    rng = random.Random(seed)
    chosen: list[str] = []
    while len(chosen) < kills:
        chosen += rng.sample(list(kinds), len(kinds))
    return [_attack(kind, rng) for kind in chosen[:kills]]


def _attack(kind: str, rng: random.Random) -> Attack:
    moment: Moment = {"kill at start-up": "start-up", "kill during a save": "save"}.get(kind, "step")  # type: ignore
    # Of what is damaged there must be more: a run whose last sound checkpoint goes cannot go on, and says so.
    fewest, most = (2 * EVERY + 1, 4 * EVERY) if kind in DAMAGING else (1, 3 * EVERY)
    steps = 0 if moment == "start-up" else rng.randint(fewest, most)
    return Attack(kind, moment, steps, rng.random(), rng.random())


def steps_needed(attacks: Sequence[Attack]) -> int:
    """Steps of a run that is not done before the last attack, even if nothing were ever lost."""
    more = sum(attack.steps + SLACK + WITHOUT_WANDB * (attack.kind == "kill W&B") for attack in attacks)
    return -(-more // EVERY) * EVERY + 2 * EVERY


def most_lost(kind: str, start: int, reached: int) -> int:
    """The steps that an attack may cost.

    The last save but one that was due is on the disk, for the next one waits for it. So the interval is lost, and
    what was made while the newest checkpoint was being written. A damaged checkpoint costs another interval; so
    does a full disk, of which a save may tell only when the next one is due. What lets the run save costs nothing.

    Args:
        kind: A key of KINDS.
        start: Where the attempt began; it saves every EVERY steps from there.
        reached: The last step it made.
    """
    if kind in GENTLE:
        return 0
    in_writing = (reached - start) % EVERY
    return EVERY + in_writing + EVERY * (kind in DAMAGING or kind == "disk full")
