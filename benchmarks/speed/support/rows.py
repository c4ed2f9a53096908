"""The result of a measurement: a row of the table and of ``bench.json``."""

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass

from rich.table import Table


@dataclass(frozen=True)
class Row:
    """A comparison of our implementation with another one.

    Attributes:
        name: What is compared.
        ours: Our median over the rounds.
        other: The median of the other one.
        ratio: Usually ours / other; larger is better for us. None if it could not be measured.
        unit: Unit of ``ours`` and ``other``.
        target: The smallest ratio to reach; None without a target.
        command: The command that measures this row.
        note: A remark, or why it was not measured.
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
        """The row as plain values with four significant digits."""
        return {key: _rounded(value) for key, value in asdict(self).items()} | {"ok": self.ok}


def compare(name: str, ours: float, other: float, unit: str, target: float | None = None, **more: str) -> Row:
    """A row of two rates: its ratio is ours / other."""
    return Row(name, ours, other, ours / other, unit, target, **more)


def skipped(name: str, unit: str, why: str, target: float | None = None, **more: str) -> Row:
    """A row for a comparison that could not be measured."""
    return Row(name, None, None, None, unit, target, note=f"skipped: {why}", **more)


def table(rows: Iterable[Row]) -> Table:
    """The rows as a table for the terminal."""
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
