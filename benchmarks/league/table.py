"""The rows of the league: a trunk at its better rate, and the other codes on the same passages."""

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.league.plan import OURS, TRUNKS, Size, better_rate
from benchmarks.trials.table import markdown, model_row, other_codes
from benchmarks.trials.trial import Result


def rows_of(size: Size, results: Mapping[str, Result], trunks: Sequence[str], seeds: int) -> list[dict[str, Any]]:
    """A row for each trunk that was measured, then one for each other code of the first one's evaluation."""
    rows: list[dict[str, Any]] = []
    for trunk in trunks:
        rate = better_rate(size, results, trunk)
        names = [name for seed in range(seeds) if (name := f"{trunk}-{rate}-{seed}") in results]
        if names:
            rows.append(model_row(TRUNKS[trunk], [results[name] for name in names]) | {"rate": rate})
    others = next(
        (name for name in [f"{OURS}-{better_rate(size, results, OURS)}-0", *results] if name in results), None
    )
    return rows + (other_codes(results[others]) if others else [])


def league_table(rows: Sequence[dict[str, Any]]) -> str:
    """The rows as a Markdown table."""
    return markdown(rows, ("rate", "learning rate"))
