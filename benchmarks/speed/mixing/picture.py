"""Makes the tables and the picture about shuffling in docs/benchmarks.md.

Usage: ``python -m benchmarks.speed.mixing.picture docs/shuffling.png``.
"""

import sys
from pathlib import Path

import matplotlib

from benchmarks.speed.mixing.shuffling import (
    AREAS,
    BUILT,
    METHODS,
    OURS,
    PERFECT,
    SEQUENTIAL,
    Mixing,
    area_bytes,
    study,
)

matplotlib.use("agg")
from matplotlib import pyplot

Found = dict[tuple[str, str], Mixing]
COLOURS = {BUILT: "#1f77b4", SEQUENTIAL: "#ff9f40"}


def draw(found: dict[str, Found], path: Path) -> None:
    """Draws the pairs of chunks of one recording in a batch, one panel per set and one line per method."""
    figure, panels = pyplot.subplots(1, len(found), figsize=(4.2 * len(found), 4.2), sharey=True, layout="constrained")
    for panel, (title, results) in zip(panels, found.items(), strict=True):
        methods = [method for method in METHODS if method != PERFECT and (method, BUILT) in results]
        rows = range(len(methods))
        ends = {kind: [results[method, kind].pairs for method in methods] for kind in COLOURS}
        panel.hlines(rows, ends[BUILT], ends[SEQUENTIAL], color="#cccccc", lw=2, zorder=1)
        for kind, colour in COLOURS.items():
            panel.scatter(ends[kind], rows, s=45, color=colour, label=f"{kind} shards", zorder=2)
        panel.axvline(results[PERFECT, BUILT].pairs, color="black", lw=1, ls="--", label="perfect shuffle")
        panel.set(xscale="log", title=title, yticks=rows, yticklabels=methods)
        panel.grid(axis="x", alpha=0.3)
    panels[0].invert_yaxis()
    panels[0].legend(loc="lower right", fontsize="small")
    figure.supxlabel("pairs of chunks of one recording in a batch of 256")
    figure.savefig(path, dpi=110)


def methods_table(found: dict[str, Found]) -> list[str]:
    """A Markdown table of pairs and overlapping pairs for each method on both layouts."""
    lines = ["| | shards | " + " | ".join(found) + " | overlapping |", "|---|---|" + "---|" * (len(found) + 1)]
    for method in METHODS:
        for kind in (BUILT,) if method == PERFECT else (BUILT, SEQUENTIAL):
            cells = [results[method, kind] for results in found.values() if (method, kind) in results]
            if cells:
                numbers = [_number(cell.pairs) for cell in cells] + [f"{cells[0].neighbours:.2f}"]
                lines.append(f"| {method} | {'any' if method == PERFECT else kind} | " + " | ".join(numbers) + " |")
    return lines


def areas_table(found: dict[str, Found]) -> list[str]:
    """A Markdown table of the cost of smaller areas of blocks."""
    lines = ["| lanes x window | memory | shards | " + " | ".join(found) + " | overlapping |"]
    lines.append("|---|---|---|" + "---|" * (len(found) + 1))
    for lanes, window in AREAS:
        for kind in COLOURS:
            cells = [results[f"{OURS}, {lanes} lanes x {window} blocks", kind] for results in found.values()]
            numbers = [_number(cell.pairs) for cell in cells] + [f"{cells[0].neighbours:.2f}"]
            memory = f"{area_bytes(lanes, window) / 2**20:,.0f} MiB"
            lines.append(f"| {lanes} x {window} | {memory} | {kind} | " + " | ".join(numbers) + " |")
    return lines


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


if __name__ == "__main__":
    results = study()
    print("\n".join([*methods_table(results), "", *areas_table(results)]))
    draw(results, Path(sys.argv[1] if len(sys.argv) > 1 else "shuffling.png"))
