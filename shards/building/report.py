"""Reports about a data set for people. Tables go to stdout, remarks to stderr."""

import math
import sys
from collections import Counter
from pathlib import PurePosixPath

from rich.console import Console
from rich.table import Table
from rich.text import Text

from shards.building.probe import NOT_AUDIO
from shards.manifest import FILE_NAME, Manifest, Source
from shards.text import printable

LISTED = 20  # skipped files named one by one
LEAST_TRAINING = 0.6  # of the audio; with less there is a warning
LEAST_HELD_OUT = 20  # chunks of the split valid; with less there is a warning


def line(text: str) -> None:
    """One remark on stderr."""
    print(printable(text), file=sys.stderr, flush=True)


def show_build(manifest: Manifest, outcome: str) -> None:
    """The closing table of a build, and what came of it."""
    console = Console(soft_wrap=True)
    console.print(splits_table(manifest))
    for text in remarks(manifest):
        console.print(text)
    console.print(Text(printable(outcome)))


def splits_table(manifest: Manifest) -> Table:
    """One row a split."""
    length = manifest.samples / manifest.rate
    table = Table(title=f"chunks of {length:g} s at {manifest.rate} Hz, one every {manifest.hop / manifest.rate:g} s")
    table.add_column("split")
    capped = any(level.left_out for level in manifest.levels.values())
    for name in ("recordings", "hours", "chunks", "shards", "MB", "rms dBFS", "silent", *["left out"] * capped):
        table.add_column(name, justify="right")
    for name, shards in manifest.splits.items():
        level = manifest.levels[name]
        table.add_row(
            Text(printable(name)),
            f"{sum(source.split == name for source in manifest.sources):,}",
            f"{level.hours:.2f}",
            f"{level.chunks:,}",
            f"{len(shards):,}",
            f"{sum(shard.bytes for shard in shards) / 1e6:,.0f}",
            f"{decibel(level.rms):.1f}",
            f"{level.silent_chunks:,}",
            *[f"{level.left_out:,}"] * capped,
        )
    return table


def remarks(manifest: Manifest) -> list[Text]:
    """Kept, silent and skipped recordings, and every reason."""
    kept = [source for source in manifest.sources if source.split is not None]
    silent = sum(source.silent for source in kept)
    skipped = [source for source in manifest.sources if source.split is None]
    other = sum(source.note == NOT_AUDIO for source in skipped)
    whys = ", ".join(f"{count:,} {printable(why)}" for why, count in reasons(manifest).items())
    counts = f"({silent:,} silent), skipped {len(skipped):,}" + f" ({whys})" * bool(whys)
    texts = [Text(f"kept {len(kept):,} recordings {counts}")]
    noted = sorted((s for s in manifest.sources if s.note not in ("", NOT_AUDIO)), key=_importance)
    texts += [Text(f"  {printable(source.path)}: {printable(source.note)}") for source in noted[:LISTED]]
    if len(noted) > LISTED:
        texts.append(Text(f"  ... and {len(noted) - LISTED:,} more, see {FILE_NAME}"))
    if other:
        texts.append(Text(f"  not audio: {_endings(skipped)}"))
    wanted = {"train": 1.0, "valid": manifest.settings.get("valid"), "test": manifest.settings.get("test")}
    texts += [
        Text(f"the split {name} is empty: more recordings would fill it")
        for name, share in wanted.items()
        if share and name not in manifest.splits
    ]
    return texts + [Text(line) for line in split_warnings(manifest)]


def split_warnings(manifest: Manifest) -> list[str]:
    """What is unusual about the sizes of the splits."""
    lines = []
    hours = {name: level.hours for name, level in manifest.levels.items()}
    train, total = hours.get("train", 0.0), math.fsum(hours.values())
    if 0 < train < LEAST_TRAINING * total:
        lines.append(
            f"only {100 * train / total:.0f} % of the audio is for training: lower --valid or --test, or add recordings"
        )
    held = manifest.chunks("valid") if "valid" in manifest.splits else 0
    if 0 < held < LEAST_HELD_OUT:
        lines.append(
            f"only {held} chunks are held out, so measures are noisy: add recordings, or build with a larger --valid"
        )
    return lines


def reasons(manifest: Manifest) -> dict[str, int]:
    """How many files were skipped for which reason, without the details behind the colon."""
    return dict(Counter(source.note.split(":")[0] for source in manifest.sources if source.split is None).most_common())


def decibel(value: float) -> float:
    """Full scale 1 -> dBFS, never below -120."""
    return 20 * math.log10(max(value, 1e-6))


def _importance(source: Source) -> tuple[bool, str]:
    """Lost recordings first, then remarkable ones."""
    return source.split is not None, source.path


def _endings(skipped: list[Source]) -> str:
    """What files that are not audio are called: "12 .txt, 1 readme"."""
    paths = [PurePosixPath(source.path) for source in skipped if source.note == NOT_AUDIO]
    counts = Counter(path.suffix or path.name for path in paths).most_common(LISTED)
    return printable(", ".join(f"{count:,} {ending}" for ending, count in counts))
