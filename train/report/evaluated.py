"""What an evaluation leaves for eyes and ears: the page of the run, and its sounds as files beside it."""

from pathlib import Path
from typing import Any

from audiovae import Autoencoder
from shards import Split
from train.report.facts import facts_of
from train.report.generated import interpolation, prior_samples
from train.report.page import Example, Page, sounds_of, write_page
from train.report.sounds import write_wavs
from train.rundir import METRICS_FILE, RunDir, read_lines


def write_evaluated(
    folder: Path,
    run: RunDir,
    model: Autoencoder,
    split: Split,
    summary: dict[str, Any],
    examples: list[Example],
    count: int,
) -> None:
    """Lets the model make more sounds, and writes index.html and audio/.

    Args:
        folder: The report's.
        run: The run.
        model: Its model, in evaluation mode.
        split: The held-out chunks.
        summary: As in metrics.json.
        examples: To hear and to see.
        count: How many of each kind were asked for.
    """
    loud = {row["path"] for row in summary["recordings"] if row["si_sdr"] is not None}
    sources = [i for i, source in enumerate(split.manifest.sources) if source.split == split.name]
    between = interpolation(model, split, [i for i in sources if split.manifest.sources[i].path in loud])
    drawn = prior_samples(model)
    clips = [*(between.clips if between else []), *(clip for same in drawn.values() for clip in same)]
    write_wavs(folder / "audio", sounds_of(examples, clips), split.rate)
    page = Page(
        summary=summary,
        examples=examples,
        points=read_lines(run.path / METRICS_FILE),
        rate=split.rate,
        facts=facts_of(run, summary, sum(p.numel() for p in model.parameters()), count),
        between=between,
        drawn=drawn,
        usage={name: share.cpu().numpy() for name, share in model.usage().items()},
    )
    write_page(folder / "index.html", page)
