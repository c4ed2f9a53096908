"""A small HTML page with a table of held-out examples, for the tracker to show during training."""

from collections.abc import Mapping, Sequence

import numpy as np

from train.evaluation.report.measures import MEASURES
from train.evaluation.report.page import Forms, compared, player
from train.evaluation.report.rendering import render


def examples_table(
    names: Sequence[str],
    reference: np.ndarray,
    reconstruction: np.ndarray,
    measures: Mapping[str, np.ndarray],
    rate: int,
    step: int,
) -> str:
    """Self-contained HTML with one row per example: audio, spectrograms, their difference and measures.

    Args:
        names: The names of n examples.
        reference, reconstruction: Audio, [n, T] or [n, 2, T] each.
        measures: Values [n] by the keys of `MEASURES`; other keys are left out, and NaN is shown as a dash.
        rate: Sample rate in Hz.
        step: Number of completed optimizer steps.
    """
    forms = Forms.for_many(0)
    shown = [measure for measure in MEASURES if measure.key in measures]
    rows = []
    for i, name in enumerate(names):
        pair = {"reference": reference[i], "reconstruction": reconstruction[i]}
        rows.append(
            {
                "name": name,
                "players": [player(word, f"{word}, {name}", audio, rate, forms) for word, audio in pair.items()],
                "pictures": compared(pair, rate, name, forms.picture),
                "figures": [float(measures[measure.key][i]) for measure in shown],
            }
        )
    seconds, top_khz = reference.shape[-1] / rate, rate / 2000
    return render("panel.html", rows=rows, columns=shown, step=step, seconds=seconds, top_khz=top_khz)
