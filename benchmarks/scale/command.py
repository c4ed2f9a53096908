"""The cluster on paper: reading, start-up, checkpoints and failures of runs with up to 1,024 processes.

The order, the schedule and the area of blocks are the product's own code; files are not read. Ranks and steps are
sampled. Start-up and small checkpoints are measured with real processes.
"""

import argparse
import sys
from dataclasses import asdict
from pathlib import Path

from benchmarks.results import BUILD, work_folder, write_results
from benchmarks.scale import checkpoints, reading, startup
from benchmarks.scale.reading import LUSTRE_READ, NFS_READ, STRIDE, Load
from train.training.preflight.goodput import GPU_HOURS, goodput, plan

PARTS = ("reading", "startup", "checkpoints", "goodput")
WORLDS = (8, 64, 96, 512, 1024)
COUNTS = (10**7, 10**8, 10**9)
MB, GB = 1e6, 1e9
COLUMNS = [
    *("chunks", "ranks", "way", "GB a rank", "requests/s", "MB each", "GB/s", "read per byte used"),
    *("files open a rank", "opens/s", "NFS requests/s", "Lustre requests/s"),
]


def main(arguments: list[str] | None = None) -> int:
    """Runs the parts and prints a Markdown table of each; returns 0."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks scale",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--pace", type=float, default=200.0, help="chunks a second of one rank (default: 200)")
    parser.add_argument("--batch", type=int, default=16, help="chunks of one rank in a step (default: 16)")
    parser.add_argument("--memory", type=float, default=200.0, help="GB for data on a node of 8 ranks (default: 200)")
    parser.add_argument("--ranks", type=int, default=4, help="ranks to simulate of each size (default: 4)")
    parser.add_argument("--disk", type=float, default=1.0, help="GB/s of one process to the file system (default: 1)")
    parser.add_argument("--network", type=float, default=10.0, help="GB/s of a gathering over nodes (default: 10)")
    parser.add_argument("--bus", type=float, default=10.0, help="GB/s from a GPU to host memory (default: 10)")
    parser.add_argument("--quick", action="store_true", help="small sizes: a test that everything runs")
    parser.add_argument("--folder", type=Path, help="folder for small runs; it is kept (default: a temporary folder)")
    parser.add_argument(
        "--out", type=Path, default=BUILD / "scale.json", help="output file (default: build/scale.json)"
    )
    args = parser.parse_args(arguments)
    if unknown := set(args.parts) - set(PARTS):
        parser.error(f"no part {sorted(unknown)[0]!r}: choose from {', '.join(PARTS)}")
    content = {}
    with work_folder(args.folder, "scale-") as folder:
        for part in args.parts or PARTS:
            content[part] = {
                "reading": lambda: _reading(args),
                "startup": lambda: _startup(folder, args.quick),
                "checkpoints": lambda: _checkpoints(folder, args),
                "goodput": lambda: _goodput(args),
            }[part]()
    write_results(args.out, content)
    return 0


def _reading(args: argparse.Namespace) -> list[dict]:
    print(
        f"\nReading from the middle of an epoch: {args.pace:g} chunks/s and a batch of {args.batch} a rank, "
        f"{args.memory:g} GB for data on a node of {reading.NODE} ranks. "
        f"{args.ranks} ranks of each size are simulated, over {reading.POSITIONS:,} positions of the epoch.\n"
    )
    _line(COLUMNS)
    _line(["---"] * 12)
    rows = []
    for count in COUNTS[:1] if args.quick else COUNTS:
        for world in WORLDS[:2] if args.quick else WORLDS:
            load = reading.simulate(count, world, args.batch, int(args.memory * GB), args.ranks)
            _line([f"{count:,}", f"{world:,}", *_figures(load, world, args.pace)])
            rows.append({"count": count, "world": world, "pace": args.pace} | asdict(load))
    return rows


def _figures(load: Load, world: int, pace: float) -> list[str]:
    """Figures of the whole run: those of a rank at its pace, times the ranks."""
    if load.way == "memory":
        return ["memory", *["0"] * 9]
    per_second = world * pace / load.chunks
    each = load.bytes / load.requests
    per_request = [max(1, -(-round(each) // largest)) for largest in (NFS_READ, LUSTRE_READ)]
    return [
        load.way,
        f"{load.slots * 64 * STRIDE / GB:.2f}",
        f"{load.requests * per_second:,.0f}",
        f"{each / MB:.2f}",
        f"{load.bytes * per_second / GB:,.2f}",
        f"{load.bytes / load.chunks / STRIDE:.1f}",
        f"{load.handles}",
        f"{load.opened * per_second:,.0f}",
        *(f"{load.requests * per_second * n:,.0f}" for n in per_request),
    ]


def _startup(folder: Path, quick: bool) -> list[dict]:
    print("\nFiles opened for reading in a start and two steps, heard in real processes (opens / kB):\n")
    _line(["processes", "attempt", "rank", *startup.KINDS])
    _line(["---"] * (3 + len(startup.KINDS)))
    rows = []
    for start in startup.measure(folder, startup.WORLDS[:2] if quick else startup.WORLDS):
        figures = [f"{start.opens[kind]:,} / {start.sizes[kind] / 1e3:,.0f}" for kind in startup.KINDS]
        _line([str(start.world), "resumed" if start.resumed else "new", str(start.rank), *figures])
        rows.append(asdict(start))
    return rows


def _checkpoints(folder: Path, args: argparse.Namespace) -> dict:
    print("\nReal checkpoints:\n")
    _line(["parameters", "snapshot, bytes each", "files, bytes each", "stall, s", "write, s", "GB/s", "read, s"])
    _line(["---"] * 7)
    real = list(checkpoints.measure(folder))
    for one in real:
        _line(
            [
                f"{one.parameters:,}",
                f"{one.snapshot / one.parameters:.2f}",
                f"{one.files / one.parameters:.2f}",
                f"{one.stall_s:.3f}",
                f"{one.write_s:.2f}",
                f"{one.files / one.write_s / GB:.2f}",
                f"{one.read_s:.2f}",
            ]
        )
    world = 64
    print(
        f"\nComputed, {world} GPUs: files written at {args.disk:g} GB/s and hashed at 1 GB/s, gathered at "
        f"{args.network:g} GB/s and copied to the host at {args.bus:g} GB/s. GB and s:\n"
    )
    _line(["billions", "GPU, DDP", "GPU, ZeRO-3", "host of rank 0", "files", "stall, DDP", "stall, ZeRO-3", "write"])
    _line(["---"] * 8)
    big = [checkpoints.large(n, world, args.disk, 1.0, args.bus, args.network) for n in checkpoints.BILLIONS]
    for item in big:
        _line([f"{value:,.3g}" for value in asdict(item).values()])
    return {"measured": [asdict(one) for one in real], "computed": [asdict(one) for one in big]}


def _goodput(args: argparse.Namespace) -> list[dict]:
    print(f"\nOne failure in {GPU_HOURS:,.0f} hours of a GPU, 300 s to start again:\n")
    _line(["billions", "GPUs", "a failure every", "save every", "goodput", "goodput, saves once an hour"])
    _line(["---"] * 6)
    rows = []
    for item in (checkpoints.large(n, 64, args.disk, 1.0, args.bus, args.network) for n in checkpoints.BILLIONS):
        for world in (8, 64, 512, 1024):
            best = plan(world, item.stall_zero, item.write)
            hourly = goodput(3600.0, item.stall_zero, item.write, best.failure_s)
            _line(
                [
                    f"{item.billions:g}",
                    f"{world:,}",
                    f"{best.failure_s / 3600:,.1f} h",
                    f"{best.best_s / 60:.1f} min",
                    f"{best.goodput:.2%}",
                    f"{hourly:.2%}",
                ]
            )
            rows.append({"billions": item.billions, "world": world, "hourly": hourly} | asdict(best))
    return rows


def _line(cells: list[str]) -> None:
    print("| " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    sys.exit(main())
