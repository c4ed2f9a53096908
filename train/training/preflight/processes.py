"""What each process sees (device, versions, data), and whether they can train together."""

import json
import socket
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from shards import DataError, Split
from train.evaluation.measuring.heldout import spread
from train.parallel.engine import Engine

CHUNKS_READ = 16  # by each process
REPORT_BYTES = 1024  # the most that a process's report takes


@dataclass(frozen=True)
class Report:
    """What one process found. A run needs the same `torch` and `data` on all processes, and like devices.

    Attributes:
        rank: Its rank.
        host: Its node's name.
        device: "cpu", or the name of its GPU.
        torch: PyTorch's version.
        data: Fingerprint of the training split, as this node sees it.
        problem: What is wrong, or "".
    """

    rank: int
    host: str
    device: str
    torch: str
    data: str
    problem: str


def check_process(engine: Engine, split: Split) -> Report:
    """Checks device and data; an error becomes the report's problem, so that no other process waits in vain."""
    device = torch.cuda.get_device_name(engine.device) if engine.device.type == "cuda" else engine.device.type
    try:
        problem = device_problem(engine) or data_problem(split, engine.rank, engine.world)
    except Exception as error:  # rank 0 prints it, whatever it is
        problem = (str(error) or type(error).__name__).splitlines()[0]
    return Report(engine.rank, socket.gethostname(), device, torch.__version__, split.fingerprint, problem)


def device_problem(engine: Engine) -> str:
    """Checks that the device multiplies correctly in the run's precision; returns what is wrong, or ""."""
    if engine.precision == "bf16" and engine.device.type == "cuda" and not torch.cuda.is_bf16_supported():
        return "its GPU has no bf16: launch with --mixed_precision no"
    ones = torch.ones(64, 64, device=engine.device)
    with engine.autocast():
        product = ones @ ones
    if bool((product == 64).all()):
        return ""
    return "its device computes wrong products; leave this node out: sbatch --exclude"


def data_problem(split: Split, rank: int, world: int) -> str:
    """Reads chunks spread over the split, different ones on each process; returns what is wrong, or "".

    A few damaged chunks are no problem: training replaces them, as data.damage_limit allows. More than half are.
    """
    chunks = spread(len(split), CHUNKS_READ * world)[rank::world]
    last = ""
    count = 0
    for place in range(len(chunks)):
        try:
            split.read(chunks[place : place + 1])
        except DataError as error:
            last, count = str(error), count + 1
    return f"{count} of {len(chunks)} chunks looked at are damaged: {last}" if 2 * count > len(chunks) else ""


def exchange(engine: Engine, mine: Report) -> list[Report]:
    """The reports of all processes, by one all-reduce over the devices' network, which thereby is tested too."""
    # The problem is shortened by itself: JSON that is cut cannot be parsed, and a letter beyond ASCII takes six bytes.
    short = mine.problem[: REPORT_BYTES // 3].encode("ascii", "replace").decode()
    content = json.dumps(asdict(mine) | {"problem": short}).encode()[:REPORT_BYTES]
    table = torch.zeros(engine.world, REPORT_BYTES, device=engine.device)
    table[engine.rank, : len(content)] = torch.tensor(list(content), dtype=torch.float32, device=engine.device)
    rows: Tensor = engine.sum({"reports": table})["reports"].to(torch.uint8).cpu()
    return [Report(**json.loads(bytes(row.tolist()).rstrip(b"\0"))) for row in rows]


def disagreement(reports: list[Report]) -> str:
    """Why these processes cannot train together, or ""."""
    for report in reports:
        if report.problem:
            return f"{report.host} (process {report.rank}): {report.problem}"
    first = reports[0]
    for report in reports:
        for what, remedy in (
            ("torch", "load the same environment on all nodes"),
            ("data", "the nodes see different shards: wait until copies are complete, or name one folder"),
        ):
            one, other = getattr(first, what), getattr(report, what)
            if one != other:
                return f"{what} is {one} on {first.host}, but {other} on {report.host}; {remedy}"
        if (report.device == "cpu") != (first.device == "cpu"):
            return (
                f"{first.host} computes on {first.device}, but {report.host} on {report.device}; "
                "request nodes of one kind"
            )
    return ""


def summary(reports: list[Report]) -> str:
    """Processes by node: '4 processes on cpu: n1 (0, 1), n2 (2, 3)'."""
    hosts: dict[str, list[str]] = {}
    for report in reports:
        hosts.setdefault(report.host, []).append(str(report.rank))
    devices = sorted({report.device for report in reports})
    where = ", ".join(f"{host} ({', '.join(ranks)})" for host, ranks in hosts.items())
    count = f"{len(reports)} processes" if len(reports) > 1 else "1 process"
    uneven = "; the slower kind sets the pace" if len(devices) > 1 else ""
    return f"{count} on {' and '.join(devices)}: {where}{uneven}"
