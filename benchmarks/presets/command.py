"""Train default presets beside the tiny ones on a CPU: the same few chunks in the same order; measures are of files."""

import argparse
import sys
from collections.abc import Iterable, Mapping
from typing import Any

from benchmarks.presets.measuring import measure_files
from benchmarks.trials.options import ERRORS, add_options, chosen, finish, prepared
from benchmarks.trials.running import run_all
from benchmarks.trials.table import markdown, model_row
from benchmarks.trials.trial import Result, Trial

# Families and their presets: the default one, made for GPUs, and that made for CPUs.
PRESETS = {family: (family, f"{family}_tiny") for family in ("vae", "hvae", "vqvae")}
STEPS, BATCH = 200, 4
QUICK_STEPS = 20


def main(arguments: list[str] | None = None) -> int:
    """Runs the command line; returns 1 if a trial failed, is missing, or a package is."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks presets", description=__doc__)
    parser.add_argument("families", nargs="*", metavar="FAMILY", help=f"of {', '.join(PRESETS)}; all if none is named")
    parser.add_argument("--steps", type=int, default=STEPS, help="optimizer steps of each model")
    parser.add_argument("--batch", type=int, default=BATCH, help="chunks a step")
    add_options(parser, None, "seeds of each preset")
    args = parser.parse_args(arguments)
    families = chosen(parser, args, args.families, PRESETS)
    if min(args.steps, args.batch) < 1:
        parser.error("--steps and --batch must be at least 1")
    try:
        with prepared(args, "presets-") as (data, folder):
            steps, seeds = (QUICK_STEPS, 1) if args.quick else (args.steps, args.seeds)
            planned = trials(families, seeds, steps, args.batch)
            results = run_all(planned, data, folder, args.jobs, args.minutes, lambda line: print(line, flush=True))
            models = {name: result.folder / "model" for name, result in results.items()}
            measured = measure_files(data, models, args.perceptual)
    except ERRORS as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    rows = rows_of(results, measured)
    missing = [trial.name for trial in planned if trial.name not in results]
    return finish(args, results, rows, markdown(rows), missing)


def trials(families: Iterable[str], seeds: int, steps: int, batch: int) -> list[Trial]:
    """Both presets of each family in every seed; the first seed of all comes first."""
    return [
        Trial(f"{preset}-{seed}", family, preset, flags(family, steps, batch), seed, steps=steps, measures=None)
        for seed in range(seeds)
        for family in families
        for preset in PRESETS[family]
    ]


def flags(family: str, steps: int, batch: int) -> tuple[str, ...]:
    """Flags for so few steps: small batches, a short warm-up of the learning rate, and codebooks that start early."""
    found = ["--data.batch", str(batch), "--optim.warmup_steps", str(steps // 10)]
    if family == "vqvae":
        found += ["--model.quantizer.start_step", str(steps // 4)]
    return tuple(found)


def rows_of(results: Mapping[str, Result], measured: Mapping[str, dict[str, float]]) -> list[dict[str, Any]]:
    """The rows of presets, as means over their seeds, and those of other codes."""
    rows: list[dict[str, Any]] = []
    for preset in dict.fromkeys(result.trial["preset"] for result in results.values()):
        own = {name: result for name, result in results.items() if result.trial["preset"] == preset}
        rows.append(model_row(preset, [*own.values()], [measured[name] for name in own]))
    return rows + [{"name": name} | values for name, values in measured.items() if name not in results]
