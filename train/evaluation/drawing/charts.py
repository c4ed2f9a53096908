"""Line charts as inline SVG; the style sheet of the page sets their colours for the light and dark themes."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from markupsafe import Markup, escape

from shards.text import printable

WIDTH, HEIGHT = 320, 190
LEFT, RIGHT, TOP, BOTTOM = 50, 10, 10, 36
# Number of line styles in page.css (colour and dashes); further lines reuse them.
STYLES = 8
# A curve with too many points is split into this many buckets; each keeps its minimum and maximum.
BUCKETS = 250
# Positive values with a larger ratio of maximum to minimum use a logarithmic axis.
WIDE_RANGE = 50.0

Points = list[tuple[float, float]]


@dataclass
class Series:
    """One line: its name and its points (x, y)."""

    name: str
    points: Points


@dataclass
class Chart:
    """A chart with its legend and caption.

    Attributes:
        title: The title.
        svg: The drawing.
        names: The legend: style number and name of each line; empty for a single line.
        summary: First and last values in words.
        text: Advice on how to read it.
        key: Its metric name in metrics.jsonl.
    """

    title: str
    svg: Markup
    names: list[tuple[int, str]]
    summary: str
    text: str = ""
    key: str = ""


# Limits of values: beyond these, differences and tick steps overflow or underflow.
LARGEST, SMALLEST = 1e300, 1e-300


@dataclass
class Axis:
    """Maps values from `low` to `high` to positions from `start` to `end` in the SVG."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False
    ticks: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.low == self.high:
            pad = abs(self.low) * 0.1 or 1.0
            self.low, self.high = (self.low / 2, self.high * 2) if self.log else (self.low - pad, self.high + pad)
        self.ticks = log_ticks(self.low, self.high) if self.log else ticks(self.low, self.high)

    def at(self, value: float) -> float:
        """The position of a value, in SVG units."""
        low, high = (math.log10(self.low), math.log10(self.high)) if self.log else (self.low, self.high)
        share = ((math.log10(max(value, self.low)) if self.log else value) - low) / (high - low)
        return self.start + share * (self.end - self.start)


def ticks(low: float, high: float, about: int = 4) -> list[float]:
    """Round tick values inside a range, `about` of them."""
    raw = (high - low) / about
    if raw < SMALLEST:
        return [low]
    size = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * size for factor in (1, 2, 2.5, 5, 10) if factor * size >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [i * step for i in range(first, math.floor(high / step + 1e-9) + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """Up to five powers of ten inside a range; in a short range also their multiples by 2 and 5."""
    first, last = math.ceil(math.log10(low) - 1e-9), math.floor(math.log10(high) + 1e-9)
    if last - first < 2:
        fine = [factor * 10.0**i for i in range(first - 1, last + 1) for factor in (1, 2, 5)]
        return [tick for tick in fine if low <= tick <= high]
    return [10.0**i for i in range(first, last + 1, max(1, math.ceil((last - first) / 4)))]


def short(value: float) -> str:
    """A number as an axis label, in three digits."""
    size = abs(float(f"{value:.3g}"))  # rounded first: 999.9 is shown as 1000
    if size >= 1e6:
        return f"{value / 1e6:.3g}M"
    if size >= 1e4:
        return f"{value / 1e3:.3g}k"
    if size >= 1e3:
        return f"{value:.0f}"
    return f"{value:.3g}" if size >= 1e-3 or not value else f"{value:.1e}".replace(".0e", "e").replace("e-0", "e-")


def thinned(points: Points) -> Points:
    """Reduces points to those that are visible: the minimum and maximum of each bucket, so peaks remain."""
    if len(points) <= 2 * BUCKETS:
        return points
    kept = []
    for i in range(BUCKETS):
        part = points[i * len(points) // BUCKETS : (i + 1) * len(points) // BUCKETS]
        pair = {min(part, key=lambda p: p[1]), max(part, key=lambda p: p[1])}
        kept += sorted(pair)
    return [points[0], *kept, points[-1]]


def finite(points: Points) -> Points:
    """Drops points with missing, non-finite or extremely large values."""
    return [(x, y) for x, y in points if isinstance(y, int | float) and abs(y) < LARGEST and math.isfinite(x)]


def line_chart(
    title: str,
    series: Sequence[Series],
    x_name: str = "step",
    log: bool | None = None,
    log_x: bool = False,
    level: tuple[str, float] | None = None,
    marks: Mapping[str, Sequence[float]] | None = None,
    text: str = "",
    keep: bool = False,
) -> Chart | None:
    """Draws lines over a common axis; None without finite points.

    Args:
        title: The title.
        series: The lines; at most STYLES of them look different.
        x_name: Label of the x axis.
        log: Whether the y axis is logarithmic; None decides by the range of values.
        log_x: Whether the x axis is logarithmic.
        level: Name and value of a horizontal reference line.
        marks: x values that get a vertical line, by its CSS class; those outside of the axis get none.
        text: Advice on how to read the chart.
        keep: Add a legend even for a single line.
    """
    styled = [(i % STYLES, Series(one.name, finite(one.points))) for i, one in enumerate(series)]
    styled = [(style, one) for style, one in styled if one.points]
    if not styled:
        return None
    series = [one for _, one in styled]
    xs = [x for one in series for x, _ in one.points]
    ys = [y for one in series for _, y in one.points] + ([level[1]] if level else [])
    log = (min(ys) > 0 and max(ys) / min(ys) > WIDE_RANGE) if log is None else log
    across = Axis(min(xs), max(xs), LEFT, WIDTH - RIGHT, log_x)
    up = Axis(min(ys), max(ys), HEIGHT - BOTTOM, TOP, log)
    parts = []
    for tick in up.ticks:
        y = up.at(tick)
        parts.append(f'<path class="grid" d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{short(tick)}</text>')
    for tick in across.ticks:
        x = across.at(tick)
        parts.append(f'<path class="grid" d="M{x:.1f} {HEIGHT - BOTTOM}v4"/>')
        anchor = "end" if x > WIDTH - 30 else "middle"
        parts.append(f'<text x="{x:.1f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="{anchor}">{short(tick)}</text>')
    for kind, values in (marks or {}).items():
        inside = [across.at(x) for x in values if across.low <= x <= across.high]
        parts += [f'<path class="{kind}" d="M{x:.1f} {TOP}V{HEIGHT - BOTTOM}"/>' for x in inside]
    if level:
        y = up.at(level[1])
        parts.append(f'<path class="level" d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}"/>')
        parts.append(f'<text x="{LEFT + 4}" y="{y - 4:.1f}">{escape(printable(level[0]))}</text>')
    for style, one in styled:
        places = [(across.at(x), up.at(y)) for x, y in thinned(one.points)]
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        parts.append(f'<polyline class="line s{style}" points="{line}"/>')
        if len(places) <= 12:
            parts += [f'<circle class="dot s{style}" cx="{x:.1f}" cy="{y:.1f}" r="2.5"/>' for x, y in places]
    parts.append(f'<path class="axis" d="M{LEFT} {TOP}V{HEIGHT - BOTTOM}H{WIDTH - RIGHT}"/>')
    scales = f"{x_name}{', log scales' if log and log_x else ', values on a log scale' if log else ''}"
    parts.append(f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 4}" text-anchor="middle">{scales}</text>')
    summary = described(series, x_name, keep)
    label = escape(printable(f"{title}: {summary}"))
    svg = f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{label}">{"".join(parts)}</svg>'
    names = [(style, one.name) for style, one in styled] if keep or len(styled) > 1 else []
    return Chart(title, Markup(svg), names, summary, text)


def described(series: Sequence[Series], x_name: str, named: bool = False, most: int = 8) -> str:
    """The first and last values of up to `most` lines in words."""
    words = []
    for one in series[:most]:
        (first_x, first), (last_x, last) = one.points[0], one.points[-1]
        name = f"{one.name}: " if named or len(series) > 1 else ""
        if len(one.points) == 1:
            words.append(f"{name}{short(last)} at {x_name} {short(last_x)}")
        else:
            words.append(f"{name}from {short(first)} at {x_name} {short(first_x)} to {short(last)} at {short(last_x)}")
    return "; ".join(words) + (f"; and {len(series) - most} more" if len(series) > most else "")
