"""The results as rows and as a table."""

from collections.abc import Mapping, Sequence
from statistics import mean
from typing import Any

from rich.table import Table

from benchmarks.faults.plan import DAMAGING, EVERY, TRAINING
from benchmarks.faults.runner import Outcome


def rows_of(outcomes: Sequence[Outcome], kinds: Mapping[str, str]) -> list[dict[str, Any]]:
    """A row for each kind of fault that was injected, in the order of `kinds`.

    `in_a_save` counts the faults that interrupted the writing of a checkpoint and cost an interval or more; None where
    that does not tell, and for encodings, which have no intervals.
    """
    rows = []
    for kind in kinds:
        own = [outcome for outcome in outcomes if outcome.fault.kind == kind]
        recovered = [outcome.recovery_s for outcome in own if outcome.recovery_s is not None]
        if own:
            rows.append(
                {
                    "fault": kind,
                    "times": len(own),
                    "lost_mean": round(mean(outcome.lost for outcome in own), 1),
                    "lost_max": max(outcome.lost for outcome in own),
                    "in_a_save": None
                    if kind in DAMAGING or kinds is not TRAINING
                    else sum(outcome.lost >= EVERY for outcome in own),
                    "end_max_s": max(outcome.end_s for outcome in own),
                    "recovery_mean_s": round(mean(recovered), 1) if recovered else None,
                    "recovery_max_s": round(max(recovered), 1) if recovered else None,
                }
            )
    return rows


def table_of(result: dict[str, Any], unit: str) -> Table:
    """The results as a table for the terminal; `unit` is what is lost."""
    rows, skipped = result["rows"], result["skipped"]
    count = sum(row["times"] for row in rows)
    table = Table(title=f"{result['target']}: {count} faults, seed {result['seed']}")
    table.add_column("fault")
    for column in ("times", f"{unit} lost, mean", "most", "in a save", "s to end", "s to recover", "most "):
        table.add_column(column, justify="right")
    for row in rows:
        values = [*row.values()]
        table.add_row(*("" if value is None else str(value) for value in values))
    for kind, why in skipped.items():
        table.add_row(kind, "0", *[""] * 5, f"skipped: {why}")
    return table


def verdict(checks: dict[str, list[str]]) -> list[str]:
    """A line for each check, followed by its problems."""
    lines = []
    for name, problems in checks.items():
        lines.append(f"{'ok  ' if not problems else 'FAIL'} {name}")
        lines += [f"       {problem}" for problem in problems[:10]]
        lines += [f"       and {len(problems) - 10} more"] * (len(problems) > 10)
    return lines
