"""What a measurement says: one row of the table, and of ``bench.json``."""

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass

from rich.table import Table


@dataclass(frozen=True)
class Row:
    """Ours beside something else.

    Attributes:
        name: What was compared with what.
        ours: Median over the rounds.
        other: The same of what it is compared with.
        ratio: Such that more is better for us, usually ours / other; None when it could not be measured.
        unit: Of ``ours`` and ``other``.
        target: What the ratio should be at least; None where there is no such aim.
        command: What gives this row.
        note: What a reader has to know, or why it was not measured.
    """

    name: str
    ours: float | None
    other: float | None
    ratio: float | None
    unit: str
    target: float | None = None
    command: str = ""
    note: str = ""

    @property
    def ok(self) -> bool | None:
        """Whether the target is reached; None without a target or a ratio."""
        return None if self.target is None or self.ratio is None else self.ratio >= self.target

    def to_json(self) -> dict:
        """As plain values, four digits."""
        return {key: _rounded(value) for key, value in asdict(self).items()} | {"ok": self.ok}


def compare(name: str, ours: float, other: float, unit: str, target: float | None = None, **more: str) -> Row:
    """A row of two rates: its ratio is ours / other."""
    return Row(name, ours, other, ours / other, unit, target, **more)


def skipped(name: str, unit: str, why: str, target: float | None = None, **more: str) -> Row:
    """A row of something that is not there."""
    return Row(name, None, None, None, unit, target, note=f"skipped: {why}", **more)


def table(rows: Iterable[Row]) -> Table:
    """The rows for people."""
    drawn = Table(box=None, pad_edge=False)
    for title, side in (("", "left"), ("ours", "right"), ("other", "right"), ("unit", "left"), ("ratio", "right")):
        drawn.add_column(title, justify=side, overflow="fold")
    drawn.add_column("target", justify="right")
    drawn.add_column("")
    for row in rows:
        verdict = {None: "", True: "[green]reached[/]", False: "[red]missed[/]"}[row.ok]
        numbers = _text(row.ours), _text(row.other), row.unit, _text(row.ratio)
        drawn.add_row(row.name, *numbers, _text(row.target), " ".join(filter(None, (verdict, row.note))))
    return drawn


def _rounded(value):
    if isinstance(value, float):
        return float(f"{value:.4g}") if math.isfinite(value) else None
    return value


def _text(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
