"""Writes the report page of a run, and its audio as WAV files next to it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from audiovae import Autoencoder
from shards import Split
from train.evaluation.measuring.chunks import Measured
from train.evaluation.report.examples import first_audible_samples, passages, pick_examples
from train.evaluation.report.facts import facts_of
from train.evaluation.report.generated import interpolation, prior_samples
from train.evaluation.report.page import Example, Page, sounds_of, write_page
from train.evaluation.report.sounds import write_wavs
from train.runs.lines import read_points
from train.runs.run_folder import METRICS_FILE, RunDir


def outermost(folder: Path, run: RunDir) -> Path:
    """The outermost folder of a report, see `shards.files`: the run's if the report is its own."""
    return run.path if folder.parent == run.path else folder


def write_evaluated(
    folder: Path,
    run: RunDir,
    model: Autoencoder,
    split: Split,
    summary: dict[str, Any],
    chunks: Measured,
    count: int,
    more: Sequence[Example] = (),
) -> None:
    """Reconstructs examples, interpolates, draws samples, and writes index.html and audio/.

    Args:
        folder: The report folder.
        run: The run.
        model: Its model, in evaluation mode.
        split: The chunks that were measured.
        summary: The content of metrics.json.
        chunks: The measures of each chunk.
        count: Number of examples of each kind.
        more: Further examples.
    """
    starts = first_audible_samples(chunks)
    examples = [*pick_examples(model, split, chunks, count), *passages(model, split, chunks, starts), *more]
    between = interpolation(model, split, starts)
    drawn = prior_samples(model)
    clips = [*(between.clips if between else []), *(clip for same in drawn.values() for clip in same)]
    inside = outermost(folder, run)
    write_wavs(folder / "audio", sounds_of(examples, clips), split.rate, inside)
    page = Page(
        summary=summary,
        examples=examples,
        points=read_points(run.path / METRICS_FILE),
        rate=split.rate,
        facts=facts_of(run, summary, model, count, split.manifest),
        between=between,
        drawn=drawn,
        usage={name: share.cpu().numpy() for name, share in model.usage().items()},
    )
    write_page(folder / "index.html", page, inside)
