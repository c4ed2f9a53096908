"""The results as rows and as a table."""

from collections.abc import Sequence
from statistics import mean
from typing import Any

from rich.table import Table

from benchmarks.faults.plan import DAMAGING, EVERY, KINDS
from benchmarks.faults.runner import Outcome


def rows_of(outcomes: Sequence[Outcome]) -> list[dict[str, Any]]:
    """A row for each kind of fault that was injected.

    `in_a_save` counts the faults that interrupted the writing of a checkpoint and cost an interval or more.
    """
    rows = []
    for kind in KINDS:
        own = [outcome for outcome in outcomes if outcome.fault.kind == kind]
        recovered = [outcome.recovery_s for outcome in own if outcome.recovery_s is not None]
        if own:
            rows.append(
                {
                    "fault": kind,
                    "times": len(own),
                    "lost_mean": round(mean(outcome.lost for outcome in own), 1),
                    "lost_max": max(outcome.lost for outcome in own),
                    "in_a_save": None if kind in DAMAGING else sum(outcome.lost >= EVERY for outcome in own),
                    "end_max_s": max(outcome.end_s for outcome in own),
                    "recovery_mean_s": round(mean(recovered), 1) if recovered else None,
                    "recovery_max_s": round(max(recovered), 1) if recovered else None,
                }
            )
    return rows


def table_of(rows: Sequence[dict[str, Any]], skipped: dict[str, str], seed: int) -> Table:
    """The rows as a table for the terminal."""
    count = sum(row["times"] for row in rows)
    table = Table(title=f"{count} faults, seed {seed}; a checkpoint every {EVERY} steps")
    table.add_column("fault")
    for column in ("times", "steps lost, mean", "most", "in a save", "s to end", "s to recover", "most "):
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
