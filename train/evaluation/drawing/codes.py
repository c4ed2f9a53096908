"""How codes are used: a chart for all codebooks, and figures for each."""

from dataclasses import dataclass

import numpy as np

from train.evaluation.drawing.charts import Chart, Series, line_chart

# The least share of a code that is drawn: unused ones lie on this line.
MIN_SHARE = 1e-6


@dataclass
class Codebook:
    """Figures of one codebook: its name, its size, the share of its codes in use, the effective number of codes."""

    name: str
    size: int
    used: float
    perplexity: float


def use_by_rank(usage: dict[str, np.ndarray]) -> Chart | None:
    """The share [K] of each code by rank, a line a codebook."""
    lines = []
    for name, share in usage.items():
        ordered = np.maximum(np.sort(share)[::-1], MIN_SHARE)
        lines.append(Series(f"codebook {name}", [(float(i), float(y)) for i, y in enumerate(ordered, start=1)]))
    if not lines:
        return None
    alike = ("if all were used alike", 1 / len(next(iter(usage.values()))))
    text = (
        "Share of the frames that each code gets, the most used first, by the moving average of training. Good: lines "
        "close to the dashed one. Lines that fall off a cliff to 1e-6 are codes that nobody uses: codebook collapse."
    )
    return line_chart(
        "use of the codes by rank", lines, x_name="rank of the code", log=True, log_x=True, level=alike, text=text
    )


def codebooks(usage: dict[str, np.ndarray]) -> list[Codebook]:
    """Figures of each codebook, of shares [K] that add up to 1."""
    rows = []
    for name, share in usage.items():
        entropy = -(share * np.log(np.maximum(share, 1e-12))).sum()
        rows.append(Codebook(name, len(share), float((share > MIN_SHARE).mean()), float(np.exp(entropy))))
    return rows
