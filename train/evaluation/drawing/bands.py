"""Charts of errors by band of frequency."""

import itertools
import math
from collections.abc import Sequence

from train.evaluation.drawing.charts import Chart, Series, line_chart

# Keys of a row of passages in metrics.json, with titles and advice.
BY_BAND = {
    "snr": (
        "SNR by band, dB",
        "Power of the signal over that of the error, higher is better. At 0 dB the error is as large as the signal. "
        "Codecs for listening have low or negative values in high bands, where only levels are heard.",
    ),
    "level_error": (
        "Level error by band, dB",
        "How far levels of short frames are off, lower is better. An error of 1 to 2 dB is hard to hear.",
    ),
    "level_bias": (
        "Level bias by band, dB",
        "Below 0 the output is too quiet, above 0 too loud. A bias near 0 beside a large error means that levels are "
        "right only on average.",
    ),
}


def band_charts(edges: Sequence[float], rows: Sequence[tuple[str, dict[str, list[float | None]]]]) -> list[Chart]:
    """One chart for each of BY_BAND, a line for each row.

    Args:
        edges: Edges of the bands in Hz.
        rows: Name and values by band, for each key of BY_BAND.
    """
    # The lowest band begins at 0 Hz, which has no place on a logarithmic axis.
    centres = [math.sqrt(max(low, top / 2) * top) for low, top in itertools.pairwise(edges)]
    charts = []
    for key, (title, text) in BY_BAND.items():
        series = [
            Series(name, [(x, y) for x, y in zip(centres, row[key], strict=True) if y is not None])
            for name, row in rows
        ]
        level = None if key == "snr" else ("", 0.0)
        chart = line_chart(title, series, x_name="Hz", log=False, log_x=True, level=level, text=text, keep=True)
        if chart:
            charts.append(chart)
    return charts
