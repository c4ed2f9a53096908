"""Use of the codes: one chart for all codebooks, and figures for each codebook."""

from dataclasses import dataclass

import numpy as np

from train.evaluation.drawing.charts import Chart, Series, line_chart

# Shares below this are drawn at this value; unused codes lie there.
MIN_SHARE = 1e-6


@dataclass
class Codebook:
    """A codebook: its name, number of codes, share of codes in use, and perplexity (effective number of codes)."""

    name: str
    size: int
    used: float
    perplexity: float


def use_by_rank(usage: dict[str, np.ndarray]) -> Chart | None:
    """A chart of the share [K] of each code by rank, one line per codebook; None without codebooks."""
    lines = []
    for name, share in usage.items():
        ordered = np.maximum(np.sort(share)[::-1], MIN_SHARE)
        lines.append(Series(f"codebook {name}", [(float(i), float(y)) for i, y in enumerate(ordered, start=1)]))
    if not lines:
        return None
    even = ("all codes used equally", 1 / len(next(iter(usage.values()))))
    text = (
        "Share of the frames that use each code, the most used code first, from the moving average of training. Good: "
        "lines close to the dashed one. A drop to 1e-6 marks unused codes; many of them are codebook collapse."
    )
    return line_chart(
        "use of the codes by rank", lines, x_name="rank of the code", log=True, log_x=True, level=even, text=text
    )


def codebooks(usage: dict[str, np.ndarray]) -> list[Codebook]:
    """Figures of each codebook, from shares [K] of its codes that sum to 1."""
    rows = []
    for name, share in usage.items():
        entropy = -(share * np.log(np.maximum(share, 1e-12))).sum()
        rows.append(Codebook(name, len(share), float((share > MIN_SHARE).mean()), float(np.exp(entropy))))
    return rows
