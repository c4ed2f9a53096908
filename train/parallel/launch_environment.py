"""The variables by which a launcher tells each process its place, checked before anything waits for other processes."""

import os
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from shards.text import printable

NUMBERS = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
NEEDED = ("RANK", "MASTER_ADDR", "MASTER_PORT")
# Of MPI and of srun with PMI; accelerate reads them where there is no WORLD_SIZE.
SIZES_OF_MPI = ("PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")
PATIENCE_S = 5.0
# Ways of training that accelerate's configuration can ask for and this program does not have: the variable by which the
# launcher passes them on, its values, the key of the file, and what to do.
DDP_OR_ZERO = "set distributed_type: MULTI_GPU there, or DEEPSPEED to shard the training state"
UNSUPPORTED = (
    ("ACCELERATE_USE_FSDP", ("true",), "distributed_type: FSDP", DDP_OR_ZERO),
    ("ACCELERATE_USE_MEGATRON_LM", ("true",), "distributed_type: MEGATRON_LM", DDP_OR_ZERO),
    ("ACCELERATE_USE_PARALLELISM_CONFIG", ("true",), "parallelism_config", f"remove it there; {DDP_OR_ZERO}"),
    ("ACCELERATE_MIXED_PRECISION", ("fp8",), "mixed_precision: fp8", "set mixed_precision: bf16 there"),
)
DYNAMO = "ACCELERATE_DYNAMO_BACKEND"
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
        if (tasks := environment.get("SLURM_STEP_NUM_TASKS", "1")) not in ("0", "1"):
            return (
                f"srun started {tasks} processes that do not know each other, and each would train alone: sbatch "
                "slurm/train_vae.sh ..., or one launcher on each node: srun --ntasks-per-node=1 accelerate launch "
                f"--config_file accelerate_config.yaml --num_processes {tasks} -m train ...; for separate runs, each "
                "with its own --run-dir: srun env WORLD_SIZE=1 python -m train ..."
            )
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


def unsupported(environment: Mapping[str, str], launcher: Sequence[str]) -> str:
    """Which key of accelerate's configuration this program cannot follow, in one line; empty if there is none.

    Args:
        environment: The environment variables of this process.
        launcher: The words of the command that started it.
    """
    found = [(key, remedy) for name, values, key, remedy in UNSUPPORTED if environment.get(name, "").lower() in values]
    backend = environment.get(DYNAMO, "no")
    if backend.lower() not in ("", "no"):
        remedy = "set dynamo_backend: 'NO' there, and pass --compile true to the training"
        found.append((f"dynamo_config, dynamo_backend: {printable(backend)}", remedy))
    if not found:
        return ""
    key, remedy = found[0]
    where = _configuration(environment, launcher)
    return f"{where}: {key} is not supported: {remedy}; or launch with --config_file accelerate_config.yaml"


def words_of_launcher() -> list[str]:
    """The words of the command that started this process; empty where they cannot be read."""
    with suppress(OSError):
        return [
            printable(os.fsdecode(word)) for word in Path(f"/proc/{os.getppid()}/cmdline").read_bytes().split(b"\0")
        ]
    return []


def _configuration(environment: Mapping[str, str], launcher: Sequence[str]) -> str:
    """The file that the launcher reads: that of its flag, else the user's own, which `accelerate config` writes."""
    for word, following in zip(launcher, [*launcher[1:], ""], strict=False):
        name, equals, value = word.partition("=")
        if name.replace("-", "_") == "__config_file":
            return value if equals else following
        if word in ("-m", "--module") and following == "train":
            break
    home = environment.get("HF_HOME") or f"{environment.get('XDG_CACHE_HOME') or '~/.cache'}/huggingface"
    file = Path(os.path.expanduser(home), "accelerate", "default_config.yaml")  # without a home it stays as it is
    return str(file) if file.exists() else "the flags or variables of accelerate"


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
