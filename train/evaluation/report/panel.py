"""The table of a few examples while a run trains: a small page of its own, for a tracker to show."""

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
    """HTML that fetches nothing: a row an example, with sounds, spectrograms, their difference and measures.

    Args:
        names: Of the examples, n of them.
        reference, reconstruction: Sounds, [n, T] each.
        measures: By name as in `MEASURES`, [n] each; others are left out, and NaN is a dash.
        rate: Hz.
        step: Optimizer steps done.
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
    seconds, top_khz = reference.shape[1] / rate, rate / 2000
    return render("panel.html", rows=rows, columns=shown, step=step, seconds=seconds, top_khz=top_khz)
