"""Passages to hear from before and after the adversarial phase."""

import numpy as np

from audiovae import Autoencoder
from shards import Split
from train.evaluation.before.earlier import Earlier
from train.evaluation.measuring.chunks import Measured
from train.evaluation.measuring.picking import Picker, extremes
from train.evaluation.report.measures import KNOWN, LEVEL_ERROR, LOG_MEL_HIGH
from train.evaluation.report.page import Example
from train.evaluation.report.rendering import figure
from train.evaluation.yardsticks.comparing import Compared, passage_audio, through
from train.evaluation.yardsticks.passages import Passage

# By the place among the gains: the title of a gain, and that of a loss.
TITLES = (("Largest gain", "Smallest loss"), ("Median gain", "Median loss"), ("Smallest gain", "Largest loss"))


def before_examples(
    earlier: Earlier, model: Autoencoder, split: Split, chunks: Measured, compared: Compared | None
) -> list[Example]:
    """The passages that gained most, the median and least, in the level error above 4 kHz; reconstructed by both.

    Where it has no value, mel distance takes its place. Without passages, chunks take theirs, by the log-mel error.

    Args:
        earlier: The model from before the phase.
        model: The later model.
        split: The split that was measured.
        chunks: The measures of the later model on every chunk.
        compared: The passages, with the measures of the later model; None without passages.
    """
    if compared and earlier.passages:
        passages, pair, measure = compared.passages, (earlier.passages, compared.columns[0]), LEVEL_ERROR
    else:
        places = zip(chunks.sources, chunks.starts, strict=True)
        passages = [Passage(int(source), int(start), split.samples) for source, start in places]
        pair, measure = (earlier.chunks.columns, chunks.columns), LOG_MEL_HIGH
    if not np.isfinite(pair[0][measure.key] - pair[1][measure.key]).any():
        measure = KNOWN["mel"]
    before, after = (np.where(np.isfinite(each["si_sdr"]), each[measure.key], np.nan) for each in pair)
    gains = before - after
    ranked = np.flatnonzero(np.isfinite(gains))
    ranked = ranked[np.argsort(-gains[ranked], kind="stable")].tolist()
    sources, firsts = np.array([(passage.source, passage.first) for passage in passages]).T
    found = extremes(ranked, 1, Picker(sources, firsts, max(passage.length for passage in passages)))
    chosen = [(titles, number) for titles, numbers in zip(TITLES, found, strict=True) for number in numbers]
    name, _, unit = f"{measure.heading[0].upper()}{measure.heading[1:]} ".partition(", ")
    examples = []
    for place, (titles, number) in enumerate(chosen, start=1):
        one = example(f"phase-{place}", passages[number], split, earlier.model, model)
        one.place, one.title = place, titles[0] if gains[number] > 0 else titles[1]
        values = [f"{figure(float(value[number]))} {unit}".strip() for value in (before, after)]
        one.figures = f"{name.strip()}: {values[0]} before, {values[1]} after"
        examples.append(one)
    return examples


def example(file: str, passage: Passage, split: Split, earlier: Autoencoder, later: Autoencoder) -> Example:
    """A passage with its reconstructions by both models, each in one piece."""
    reference = passage_audio(split, passage)
    path, start = split.manifest.sources[passage.source].path, passage.first / split.rate
    before, after = through(earlier, reference), through(later, reference)
    return Example(file, "phase", 0, path, start, reference, after, {}, before=before)
