"""What the adversarial phase changed: paired differences with intervals, and the same in words."""

from typing import Any

import numpy as np

from shards import Split
from train.evaluation.before.earlier import Earlier
from train.evaluation.measuring.chunks import Measured
from train.evaluation.measuring.frechet import frechet
from train.evaluation.report.measures import OF_PHASE, Measure
from train.evaluation.statistics.paired import mean_difference
from train.evaluation.yardsticks.comparing import Compared

# Measures of chunks; the others of OF_PHASE are of passages.
OF_CHUNKS = ("si_sdr", "mel", "stft", "log_mel_high")
# Verdicts on a difference, in the order of the sentence.
WORDS = {
    "better": "better in",
    "worse": "worse in",
    "none": "no difference in",
    "unknown": "too few recordings to tell in",
}


def before_summary(
    earlier: Earlier, chunks: Measured, references: np.ndarray, compared: Compared | None, split: Split
) -> dict[str, Any]:
    """The part `before_phase` of metrics.json.

    Args:
        earlier: The model from before the phase.
        chunks: The measures of the later model on the same chunks, with `log_mel_high`.
        references: Embeddings of the original chunks, [n, D].
        compared: The passages, with the measures of the later model; None without passages.
        split: The split that was measured.
    """
    loud = ~chunks.silent
    of_chunks = (chunks.sources, chunks.starts)
    rows: dict[str, dict[str, Any]] = {}
    for measure in OF_PHASE:
        found = None
        if measure.key in OF_CHUNKS:
            pair = [each.columns[measure.key].astype(np.float64) for each in (earlier.chunks, chunks)]
            found = paired_row(measure, [np.where(loud, values, np.nan) for values in pair], of_chunks, split.samples)
        elif compared and earlier.passages and measure.key in earlier.passages:
            pair = [each[measure.key].astype(np.float64) for each in (earlier.passages, compared.columns[0])]
            of_passages = [(passage.source, passage.first) for passage in compared.passages]
            sources, firsts = np.array(of_passages).T
            found = paired_row(measure, pair, (sources, firsts), split.samples)
        if found:
            rows[measure.key] = found
    distances = {
        name: frechet(references[loud], each.columns["embedding"][loud])
        for name, each in (("before", earlier.chunks), ("after", chunks))
    }
    about = {"model": earlier.name, "step": earlier.step, "chunks": int(loud.sum())}
    about["passages"] = len(compared.passages) if compared else 0
    return {**about, "measures": rows, "frechet": distances, "summary": in_words(rows)}


def paired_row(
    measure: Measure, pair: list[np.ndarray], places: tuple[np.ndarray, np.ndarray], samples: int
) -> dict[str, Any] | None:
    """Means before and after, and the mean of the differences, over what both have a value for; None without any.

    Args:
        measure: The measure.
        pair: Its values before and after, [n] float64 each; NaN where there is none.
        places: Recording and first sample of each chunk or passage, [n] each.
        samples: Length of a chunk in samples.
    """
    there = np.isfinite(pair[0]) & np.isfinite(pair[1])
    if not there.any():
        return None
    before, after = (values[there] for values in pair)
    sources, starts = (each[there] for each in places)
    mean, interval, over = mean_difference(after - before, sources, starts, samples)
    return {
        "before": float(before.mean()),
        "after": float(after.mean()),
        "difference": mean,
        "interval": list(interval) if interval else None,
        "interval_over": over if measure.key in OF_CHUNKS or over != "chunks" else "passages",
        "verdict": verdict_on(interval, bool(measure.higher)),
    }


def verdict_on(interval: tuple[float, float] | None, higher: bool) -> str:
    """A key of WORDS for the interval of a difference, after minus before; `higher` says which sign is better."""
    if interval is None:
        return "unknown"
    low, high = interval
    if low <= 0 <= high:
        return "none"
    return "better" if (low > 0) == higher else "worse"


def in_words(rows: dict[str, dict[str, Any]]) -> str:
    """One sentence on the rows by measure, such as "Better in mel distance, worse in SI-SDR."."""
    parts = []
    for verdict, words in WORDS.items():
        names = [
            measure.heading.partition(",")[0]
            for measure in OF_PHASE
            if measure.key in rows and rows[measure.key]["verdict"] == verdict
        ]
        if names:
            parts.append(f"{words} {' and '.join(filter(None, [', '.join(names[:-1]), names[-1]]))}")
    text = "; ".join(parts)
    return f"{text[:1].upper()}{text[1:]}."
