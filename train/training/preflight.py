"""Looks at all that a run needs before its first step: what would fail in an hour fails in seconds, in one line."""

import json
import os
import shutil
import socket
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from urllib.parse import urlsplit

import torch
from torch import Tensor

from shards import DataError, Split
from shards.files import make_folder, read_lines, write_atomically
from shards.reading.remote.failures import cleaned
from train.config import RunConfig
from train.errors import TrainError
from train.evaluation.measuring.heldout import spread
from train.optim.snapshot import Snapshot
from train.parallel.engine import Engine
from train.runs import checkpoint
from train.runs.checkpoint import Retention
from train.runs.forecast import duration, forecast, room_needed
from train.runs.run_folder import METRICS_FILE, PREFLIGHT_FILE, RunDir
from train.tracking.wandb_run import wandb_mode
from train.training.learner import Learner

SPOTS = 16  # chunks that each process reads
ANSWER = 1024  # bytes of a process's answer
ANSWER_S = 5  # that W&B's server has to answer


@dataclass(frozen=True)
class Answer:
    """What one process says about itself; the same but for rank and host, or the run does not begin.

    Attributes:
        rank, host: Who it is.
        device: "cpu", or the name of its GPU.
        torch: PyTorch's version.
        data: Fingerprint of the training split, as this node sees it.
        problem: What is wrong here, or "".
    """

    rank: int
    host: str
    device: str
    torch: str
    data: str
    problem: str


def preflight(
    config: RunConfig, engine: Engine, run: RunDir, splits: tuple[Split, Split | None], learner: Learner
) -> None:
    """Looks; prints a few lines on rank 0.

    Raises:
        TrainError: on all processes alike, with what is wrong.
    """
    if not config.preflight:
        return
    began = time.monotonic()
    answers = exchange(engine, check_everything(engine, splits[0]))
    if problem := disagreement(answers):
        raise TrainError(f"preflight: {problem}")
    snapshot = learner.snapshot()  # by every process: some hold parts of it
    lines = engine.on_main(lambda: _look_on_main(config, run, learner, snapshot))
    if engine.is_main:
        took = time.monotonic() - began
        for line in [f"{company(answers)}, precision {engine.precision}; looked in {took:.1f} s", *lines]:
            print(f"preflight: {line}", flush=True)


def check_everything(engine: Engine, split: Split) -> Answer:
    """What this process sees; errors become its answer, so that nobody waits for a process that has left."""
    device = torch.cuda.get_device_name(engine.device) if engine.device.type == "cuda" else engine.device.type
    problem = ""
    try:
        problem = device_problem(engine) or data_problem(split, engine.rank, engine.world)
    except Exception as error:  # of whatever kind: it is told
        problem = (str(error) or type(error).__name__).splitlines()[0]
    return Answer(engine.rank, socket.gethostname(), device, torch.__version__, split.fingerprint, problem)


def device_problem(engine: Engine) -> str:
    """Whether the device counts right in the precision of the run."""
    if engine.precision == "bf16" and engine.device.type == "cuda" and not torch.cuda.is_bf16_supported():
        return "its GPU has no bf16: launch with --mixed_precision no"
    ones = torch.ones(64, 64, device=engine.device)
    with engine.autocast():
        product = ones @ ones
    return "" if bool((product == 64).all()) else "its device multiplies wrongly; leave this node out: sbatch --exclude"


def data_problem(split: Split, rank: int, world: int) -> str:
    """Whether chunks from all over the split, other ones on each process, can be read and are sound."""
    chunks = spread(len(split), SPOTS * world)[rank::world]
    bad = ""
    count = 0
    for place in range(len(chunks)):
        try:
            split.read(chunks[place : place + 1])
        except DataError as error:
            bad, count = str(error), count + 1
    # A few are replaced while training, as data.damage_limit allows.
    return f"{count} of {len(chunks)} chunks looked at are damaged: {bad}" if 2 * count > len(chunks) else ""


def exchange(engine: Engine, mine: Answer) -> list[Answer]:
    """Everybody's answer, by one sum over the devices' own network: it shows that this works, too."""
    # Shortened rather than cut: what is cut is no JSON, in which a letter beyond ASCII takes six bytes.
    short = mine.problem[: ANSWER // 3].encode("ascii", "replace").decode()
    words = json.dumps(asdict(mine) | {"problem": short}).encode()[:ANSWER]
    table = torch.zeros(engine.world, ANSWER, device=engine.device)
    table[engine.rank, : len(words)] = torch.tensor(list(words), dtype=torch.float32, device=engine.device)
    rows: Tensor = engine.sum({"answers": table})["answers"].to(torch.uint8).cpu()
    return [Answer(**json.loads(bytes(row.tolist()).rstrip(b"\0"))) for row in rows]


def disagreement(answers: list[Answer]) -> str:
    """What keeps these processes from training together, or ""."""
    for answer in answers:
        if answer.problem:
            return f"{answer.host} (process {answer.rank}): {answer.problem}"
    first = answers[0]
    for answer in answers:
        for what, remedy in (
            ("torch", "load the same environment on all nodes"),
            ("data", "the nodes see different shards: wait until copies are complete, or name one folder"),
        ):
            one, other = getattr(first, what), getattr(answer, what)
            if one != other:
                return f"{what} is {one} on {first.host}, but {other} on {answer.host}; {remedy}"
        if (answer.device == "cpu") != (first.device == "cpu"):
            return f"{first.host} computes on {first.device}, but {answer.host} on {answer.device}; ask for like nodes"
    return ""


def company(answers: list[Answer]) -> str:
    """Who met: '4 processes on cpu: n1 (0, 1), n2 (2, 3)'."""
    hosts: dict[str, list[str]] = {}
    for answer in answers:
        hosts.setdefault(answer.host, []).append(str(answer.rank))
    devices = sorted({answer.device for answer in answers})
    where = ", ".join(f"{host} ({', '.join(ranks)})" for host, ranks in hosts.items())
    many = f"{len(answers)} processes" if len(answers) > 1 else "1 process"
    uneven = "; the slower kind sets the pace" if len(devices) > 1 else ""
    return f"{many} on {' and '.join(devices)}: {where}{uneven}"


def _look_on_main(config: RunConfig, run: RunDir, learner: Learner, snapshot: Snapshot) -> list[str]:
    """What one process looks at for all; returns lines to print."""
    # What an attempt that was killed in a save left is no reason to end this one.
    checkpoint.remove_unfinished(run.path / "checkpoints")
    shutil.rmtree(run.path / "preflight", ignore_errors=True)
    room(config, run.path / "checkpoints", bytes_of(snapshot), 0.0)  # before anything is written there
    size, save_s = round_trip(run.path, learner, snapshot)
    lines = [room(config, run.path / "checkpoints", size, save_s)]
    lines += [line for line in (choose_wandb(config),) if line]
    limits = job_limits()
    lines += ahead(config, run, learner.step, save_s, *limits)
    content = {"time": round(time.time(), 3), "bytes": size, "save_s": round(save_s, 3), "job_s": limits[1]}
    write_atomically(run.path / PREFLIGHT_FILE, json.dumps(content) + "\n")
    return lines


def round_trip(folder: Path, learner: Learner, snapshot: Snapshot) -> tuple[int, float]:
    """Saves the state as it will be saved, reads it back and compares; returns bytes and seconds of a save.

    Raises:
        TrainError: when what comes back is not what was saved.
    """
    aside = folder / "preflight"
    try:
        began = time.monotonic()
        make_folder(aside, folder)
        saved = checkpoint.save(aside, learner.model, snapshot, Retention(newest=1, best=False))
        seconds = time.monotonic() - began
        if problem := checkpoint.damage(saved):
            raise TrainError(f"preflight: {folder}: a checkpoint saved there does not come back whole: {problem}")
        back = checkpoint.load(saved)
        pairs = ((snapshot.weights, back.weights), (snapshot.averaged, back.averages), (snapshot.moments, back.moments))
        if not all(same(*pair) for pair in pairs) or not snapshot.state.items() <= back.state.items():
            raise TrainError(f"preflight: {folder}: a checkpoint saved there comes back with other values")
        size = sum(file.stat().st_size for file in saved.iterdir())
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return size, seconds


def bytes_of(snapshot: Snapshot) -> int:
    """Bytes of all tensors: about what saving them takes."""
    parts = (snapshot.weights, snapshot.averaged, snapshot.moments)
    return sum(value.numel() * value.element_size() for part in parts for value in part.values())


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    """Whether tensors are equal, bit for bit."""
    if one.keys() != other.keys():
        return False
    pairs = [(value, other[name]) for name, value in one.items()]
    return all(
        a.dtype == b.dtype
        and a.shape == b.shape
        and torch.equal(*(value.contiguous().reshape(-1).view(torch.uint8) for value in (a, b)))
        for a, b in pairs
    )


def room(config: RunConfig, folder: Path, size: int, save_s: float) -> str:
    """Whether the checkpoints that stay will fit.

    Raises:
        TrainError: when they will not.
    """
    keep = config.checkpoint
    present = len(checkpoint.all_checkpoints(folder))
    needed = room_needed(size, present, keep.keep, keep.keep_best)
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise TrainError(
            f"preflight: {folder}: {free / 1e6:,.0f} MB free, but the checkpoints that stay take "
            f"{needed / 1e6:,.0f} MB more; make room, or lower --checkpoint.keep (now {keep.keep})"
        )
    line = f"a checkpoint takes {size / 1e6:,.1f} MB and {save_s:.1f} s; {free / 1e9:,.1f} GB are free"
    if keep.keep_every and config.optim.steps // keep.keep_every * size > free:
        line += f"; warning: those of --checkpoint.keep_every {keep.keep_every} will not all fit"
    return line


def choose_wandb(config: RunConfig) -> str:
    """Falls back to offline where W&B's server does not answer: its own attempt takes minutes."""
    if wandb_mode(config.tracking.wandb) != "online":
        return ""
    server = os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")
    proxy = os.environ.get("HTTPS_PROXY") or os.environ.get("https_proxy")
    if answers(proxy or server):
        return f"W&B at {cleaned(server)} answers"
    config.tracking.wandb = "offline"
    later = f"python -m train sync {config.run_dir}"
    return f"W&B at {cleaned(server)} does not answer: offline; later, where it does: {later}"


def answers(url: str) -> bool:
    """Whether somebody listens there."""
    try:
        parts = urlsplit(url if "//" in url else f"//{url}")
        port = parts.port or (80 if parts.scheme == "http" else 443)
        socket.create_connection((parts.hostname, port), timeout=ANSWER_S).close()
    except (OSError, ValueError):
        return False
    return True


def job_limits() -> tuple[float | None, float | None]:
    """Seconds that this job has left, and that it lasts in all; None where there is no limit."""
    try:
        end, start = (int(os.environ[f"SLURM_JOB_{name}_TIME"]) for name in ("END", "START"))
    except (KeyError, ValueError):
        return None, None
    return end - time.time(), float(end - start)


def ahead(
    config: RunConfig, run: RunDir, step: int, save_s: float, left_s: float | None, job_s: float | None
) -> list[str]:
    """What this attempt may expect, by the pace of those before."""
    rows = read_lines(run.path / METRICS_FILE)
    pace = [row["perf/chunks_per_second"] for row in rows if row.get("perf/chunks_per_second")]
    steps = config.optim.steps - step
    if not pace:
        end = f"; this job ends in {duration(left_s)}" if left_s is not None else ""
        return [
            f"{steps:,} steps ahead{end}; how long they take is known after the first points: python -m train status"
        ]
    seen = forecast(steps, config.data.batch / median(pace), config.checkpoint.every, save_s, left_s, job_s)
    line = f"{steps:,} steps and {seen.saves:,} saves ahead, about {duration(seen.seconds)}"
    if left_s is not None:
        line += f"; this job ends in {duration(left_s)}"
    if seen.jobs:
        line += f", {seen.jobs:,} more of {duration(job_s or 0)} will follow"
    return [line]
