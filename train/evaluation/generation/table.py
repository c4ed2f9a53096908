"""The table of measures of generated recordings, for the page and the terminal."""

import sys
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from shards.text import printable
from train.evaluation.generation.measures.copying import NEAR_SHARE
from train.evaluation.generation.summary import GENERATED, HELD_OUT, RECONSTRUCTED, WITHOUT
from train.evaluation.generation.verdict import findings
from train.evaluation.report.measures import is_number
from train.evaluation.report.rendering import figure

ROWS = {
    GENERATED: "generated",
    WITHOUT: "autoencoder's own prior",
    RECONSTRUCTED: "reconstructions",
    HELD_OUT: "held-out recordings",
}
# The same for the terminal.
SHORT = {GENERATED: "generated", WITHOUT: "own prior", RECONSTRUCTED: "reconstructed", HELD_OUT: "held out"}
Cell = tuple[float | None, tuple[float, float] | None]


def lags_of(summary: dict[str, Any]) -> list[float]:
    """All lags of coherence that a row has, in seconds."""
    return sorted({lag["seconds"] for row in summary["rows"].values() for lag in row["coherence"]})


def headings(summary: dict[str, Any]) -> list[str]:
    """The headings of the columns, without that of the names."""
    after = [f"change in {figure(lag)} s" for lag in lags_of(summary)]
    return ["kernel distance", "Fréchet", *after, "diversity", "near training, %", "silent, %"]


def cells(summary: dict[str, Any], name: str) -> list[Cell]:
    """The values of a row, each with its interval or None.

    The row of held-out recordings has the floors for its distances, and the share that defines what is near.
    """
    row = summary["rows"][name]
    kernel, near = cell(row, "kernel_distance"), cell(row, "near_share", 100)
    frechet = row.get("frechet")
    if name == HELD_OUT:
        kernel, frechet = ((summary["kernel_floor"] or {}).get("high"), None), summary.get("frechet_floor")
        near = (100 * NEAR_SHARE if summary["training_chunks"] else None, None)
    found = {lag["seconds"]: (lag["distance"], lag["interval"]) for lag in row["coherence"]}
    changes: list[Cell] = [found.get(lag, (None, None)) for lag in lags_of(summary)]
    windows = row["windows"] + row["silent_windows"]
    silent = 100 * row["silent_windows"] / windows if windows else None
    return [kernel, (frechet, None), *changes, cell(row, "diversity"), near, (silent, None)]


def cell(row: dict[str, Any], key: str, factor: float = 1.0) -> Cell:
    """A value of a row and its interval, times a factor."""
    value, ends = row.get(key), row["intervals"].get(key)
    scaled = (factor * ends[0], factor * ends[1]) if ends and ends[0] < ends[1] else None
    return (factor * value if is_number(value) else None), scaled


def key_figures(summary: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Headline values: name, value, and a remark."""
    own, held_out = (summary["rows"][name] for name in (GENERATED, HELD_OUT))
    floor = (summary["kernel_floor"] or {}).get("high")
    keys = [("kernel distance", figure(own.get("kernel_distance")), f"parts of recordings: up to {figure(floor)}")]
    usual = {lag["seconds"]: lag["distance"] for lag in held_out["coherence"]}
    keys += [
        (
            f"change in {figure(lag['seconds'])} s",
            figure(lag["distance"]),
            f"recordings: {figure(usual[lag['seconds']])}",
        )
        for lag in own["coherence"]
        if lag["seconds"] in usual
    ]
    keys.append(("diversity", figure(own.get("diversity")), f"recordings: {figure(held_out.get('diversity'))}"))
    if is_number(share := own.get("near_share")):
        keys.append(("near the training data", f"{100 * share:.3g} %", "held-out recordings: 1 %"))
    return keys


def print_summary(summary: dict[str, Any]) -> None:
    """Prints the main values of metrics.json."""
    what = f"{summary['run']} (prior): {summary['pieces']} recordings of {summary['seconds']:.3g} s"
    table = Table(title=Text(printable(what), style="table.title"), box=None, padding=(0, 0, 0, 1), pad_edge=False)
    lags = [f"{figure(lag)} s" for lag in lags_of(summary)]
    columns = ["", "kernel", "Fréchet", *lags, "diversity", "near, %"]
    # The last column is shown where it says something: 80 characters hold the others.
    columns += ["silent, %"] if any(row["silent_windows"] for row in summary["rows"].values()) else []
    for name in columns:
        table.add_column(name, justify="right" if name else "left", no_wrap=True)
    for name in summary["rows"]:
        shown = [SHORT[name], *(figure(value) for value, _ in cells(summary, name))]
        table.add_row(*shown[: len(columns)])
    Console(file=sys.stdout).print(table)
    for one in findings(summary):
        print(printable(one.text))
