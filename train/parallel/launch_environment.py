"""The variables by which a launcher tells each process its place, checked before anything waits for other processes."""

import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

NUMBERS = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
NEEDED = ("RANK", "MASTER_ADDR", "MASTER_PORT")
# Of MPI and of srun with PMI; accelerate reads them where there is no WORLD_SIZE.
SIZES_OF_MPI = ("PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")
PATIENCE_S = 5.0
REMEDY = "start it with accelerate launch, or run: unset "


def rank_in(environment: Mapping[str, str]) -> int:
    """This process's rank, also before the processes have met; 0 where there is no launcher."""
    rank = environment.get("RANK", "")
    return int(rank) if _is_whole(rank) and _world_in(environment) > 1 else 0


def launch_problem(environment: Mapping[str, str]) -> str:
    """Why this process cannot meet the others that the environment promises, in one line; empty if it can."""
    for name in NUMBERS:
        if not _is_whole(environment.get(name, "0")):
            return f"{name}={environment[name]} in the environment is not a whole number: {REMEDY}{name}"
    if "WORLD_SIZE" not in environment:
        for name in SIZES_OF_MPI:
            if (size := environment.get(name, "1")) not in ("0", "1"):
                return f"{name}={size}: mpirun, or srun with PMI, does not connect the processes; {REMEDY}{name}"
    world = _world_in(environment)
    if world > 1:
        promised = f"WORLD_SIZE={world} in the environment"
        if missing := [name for name in NEEDED if name not in environment]:
            there = f"{promised}, but no {' and no '.join(missing)}: no launcher started this process"
            return f"{there}; {REMEDY}{_set_names(environment)}"
        if (rank := int(environment["RANK"])) >= world:
            return f"{promised}, but RANK={rank}: no launcher started this process; {REMEDY}{_set_names(environment)}"
    return ""


@contextmanager
def told_when_waiting(environment: Mapping[str, str]) -> Iterator[None]:
    """Wraps the meeting of the processes; prints a line when that takes long and no launcher watches over them."""
    if _world_in(environment) < 2 or "TORCHELASTIC_RUN_ID" in environment:
        yield
        return
    timer = threading.Timer(PATIENCE_S, print, [_waiting(environment)], {"file": sys.stderr, "flush": True})
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def nobody_came(environment: Mapping[str, str]) -> str:
    """The error when the processes did not meet."""
    return f"the {_world_in(environment)} processes of this run did not meet at {_place(environment)}; " + (
        f"{REMEDY}{_set_names(environment)}"
    )


def _waiting(environment: Mapping[str, str]) -> str:
    told = " ".join(f"{name}={environment[name]}" for name in ("RANK", "WORLD_SIZE"))
    return (
        f"waiting for the other processes at {_place(environment)}, as the environment has {told}; if nothing started "
        f"them, {REMEDY}{_set_names(environment)}"
    )


def _place(environment: Mapping[str, str]) -> str:
    return f"{environment.get('MASTER_ADDR', '')}:{environment.get('MASTER_PORT', '')}"


def _set_names(environment: Mapping[str, str]) -> str:
    return " ".join(name for name in (*NUMBERS, "MASTER_ADDR", "MASTER_PORT") if name in environment)


def _world_in(environment: Mapping[str, str]) -> int:
    size = environment.get("WORLD_SIZE", "")
    return int(size) if _is_whole(size) else 1


def _is_whole(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) < 10
