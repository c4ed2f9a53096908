"""Writes the report page of a run, and its audio as WAV files next to it."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from audiovae import Autoencoder, ModelError
from audiovae.card import CARD_FILE, FACTS_FILE
from audiovae.output import check_output
from shards import Split
from shards.files import UnsafePathError, check_place, read_object
from shards.files import check_folder as check_real_folder
from shards.text import printable
from train.errors import TrainError
from train.evaluation.measuring.chunks import Measured
from train.evaluation.measuring.summary_file import LIMIT
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


def place_of_report(settings: Any, source: Path) -> tuple[Path, bool]:
    """The folder of a report on these weights, and whether it is the run's own, which describes its newest weights."""
    if settings.out is not None:
        return settings.out, False
    if settings.checkpoint is not None:
        return Path(settings.run_dir) / f"report-{source.name}", False
    return Path(settings.run_dir) / "report", True


def check_folder(folder: Path, own: bool) -> None:
    """Raises TrainError if no report can be written there, or if it is not the run's `own` and holds other files.

    With `own` the model card of the run must be writable too.
    """
    places = [folder / name for name in ("metrics.json", "metrics.csv", "passages.csv", "index.html")]
    places += [folder.parent / "model" / name for name in (CARD_FILE, FACTS_FILE)] if own else []
    try:
        check_output(places[0])
        for place in places:
            check_place(place)
        check_real_folder(folder / "audio")
    except (ModelError, UnsafePathError) as error:
        raise TrainError(str(error)) from None
    if not own and folder.is_dir() and any(folder.iterdir()) and not (folder / "metrics.csv").exists():
        raise TrainError(f"{folder}: not a report and not empty; choose another folder with --out DIR")


def warn_of_earlier_report(folder: Path, split: Split) -> None:
    """Warns that a report on other chunks will be replaced; the evaluation can be repeated."""
    try:
        earlier = read_object(folder / "metrics.json", LIMIT)
        if earlier["split_fingerprint"] != split.fingerprint:
            what = f"split '{earlier['split']}' of {earlier['data']}"
            line = f"{folder}: replacing the report on {what}; to keep both, pass --out DIR"
            print(printable(line), file=sys.stderr)
    except (OSError, ValueError, KeyError, TypeError):
        return  # no earlier report, or none that can be read
