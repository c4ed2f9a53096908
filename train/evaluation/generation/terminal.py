"""Terminal output of an evaluation of generated recordings."""

import sys
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from shards.text import printable
from train.evaluation.generation.table import ROWS, cells, headings
from train.evaluation.generation.verdict import findings
from train.evaluation.report.rendering import figure


def print_summary(summary: dict[str, Any]) -> None:
    """Prints the main values of metrics.json."""
    what = f"{summary['pieces']} pieces of {summary['seconds']:.3g} s"
    table = Table(title=Text(printable(f"{summary['run']} (prior): {what}"), style="table.title"))
    for name in ("", *headings(summary)):
        table.add_column(name, justify="right" if name else "left")
    for name in summary["rows"]:
        table.add_row(ROWS[name], *(figure(value) for value, _ in cells(summary, name)))
    Console(file=sys.stdout).print(table)
    for one in findings(summary):
        print(printable(one.text))
