"""Reports about a data set for people. Tables go to stdout, remarks to stderr."""

import math
import sys
from collections import Counter
from pathlib import Path, PurePosixPath

from rich.console import Console
from rich.table import Table
from rich.text import Text

from shards.building.plan import Plan
from shards.building.probe import NOT_AUDIO
from shards.manifest import FILE_NAME, Manifest, Source
from shards.presets import fitting_presets
from shards.text import printable

LISTED = 20  # skipped files named one by one
MOST_LABELS = 20  # named one by one
LEAST_TRAINING = 0.6  # of the audio; with less there is a warning
MOST_PADDING = 0.1  # of the chunks; with more there is a warning
SHORTER = 25_000  # samples: how much shorter than a chunk a window is that a preset is looked for
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
    console.print(Text(presets_that_fit(manifest.samples, manifest.rate)))
    console.print(Text(printable(outcome)))


def presets_that_fit(samples: int, rate: int) -> str:
    """Which presets of the training can be used with chunks of that length."""
    what = f"chunks of {samples:,} samples at {rate:,} Hz"
    if names := _presets(samples, rate):
        return f"presets that fit {what}: {', '.join(names)}"
    crop = next((length for length in range(samples, max(0, samples - SHORTER), -1) if _presets(length, rate)), 0)
    remedy = f"; train with --data.crop {crop} for windows that fit {', '.join(_presets(crop, rate))}" if crop else ""
    return f"warning: no preset fits {what}{remedy}"


def _presets(samples: int, rate: int) -> list[str]:
    """Names of the presets for chunks of that length, without those of studies."""
    return [name for name in fitting_presets(samples, rate) if "/" not in name]


def show_plan(plan: Plan, out: Path) -> None:
    """What a build would do: its files by split, what it would skip and why, and the disk space that it takes."""
    console = Console(soft_wrap=True)
    settings = plan.settings
    shape = settings.shape
    what = f"{kind(settings.channels)}chunks of {settings.samples / settings.rate:g} s at {settings.rate} Hz"
    table = Table(title=f"{what} that would be added")
    table.add_column("split")
    for name in ("recordings", "hours", "chunks", "MB"):
        table.add_column(name, justify="right")
    usable = [one for one in plan.sources.values() if not one.problem]
    for split in sorted({str(one.split) for one in usable}):
        here = [one for one in usable if one.split == split]
        share = settings.shares.get(split, 1 - sum(settings.shares.values()))
        part = share if any(one.divided for one in here) else 1.0
        chunks = round(part * sum(plan.chunks(one) for one in here))
        hours = part * math.fsum(one.seconds for one in here) / 3600
        table.add_row(split, f"{len(here):,}", f"{hours:.2f}", f"{chunks:,}", f"{shape.shard_bytes(chunks) / 1e6:,.0f}")
    console.print(table)
    skipped = [one for one in plan.sources.values() if one.problem]
    console.print(Text(f"{len(usable):,} recordings to add, {len(skipped):,} files to skip"))
    for one in sorted((one for one in skipped if one.problem != NOT_AUDIO), key=lambda one: one.path)[:LISTED]:
        console.print(Text(f"  {printable(one.path)}: {printable(one.problem)}"))
    if others := sum(one.problem == NOT_AUDIO for one in skipped):
        console.print(Text(f"  {others:,} files are not audio"))
    console.print(Text(presets_that_fit(settings.samples, settings.rate)))
    console.print(
        Text(
            "Lengths are those that the files announce. Damage, silence and copies with another file's sound are found "
            f"when they are decoded. Nothing was written to {printable(str(out))}."
        )
    )


def kind(channels: int) -> str:
    """What comes before "chunks" in a title: nothing for mono."""
    return "stereo " if channels == 2 else ""


def splits_table(manifest: Manifest) -> Table:
    """One row a split."""
    length = manifest.samples / manifest.rate
    what = f"{kind(manifest.channels)}chunks of {length:g} s at {manifest.rate} Hz"
    table = Table(title=f"{what}, one every {manifest.hop / manifest.rate:g} s")
    table.add_column("split")
    capped = any(level.left_out for level in manifest.levels.values())
    for name in ("recordings", "hours", "chunks", "shards", "MB", "rms dBFS", "silent", *["left out"] * capped):
        table.add_column(name, justify="right")
    for name, shards in manifest.splits.items():
        level = manifest.levels[name]
        table.add_row(
            Text(printable(name)),
            f"{sum(source.split == name and source.members is None for source in manifest.sources):,}",
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
    files = [source for source in manifest.sources if source.members is None]
    kept = list({source.path: source for source in files if source.split is not None}.values())
    silent = sum(source.silent for source in kept)
    skipped = [source for source in files if source.split is None]
    other = sum(source.note == NOT_AUDIO for source in skipped)
    whys = ", ".join(f"{count:,} {printable(why)}" for why, count in reasons(manifest).items())
    counts = f"({silent:,} silent), skipped {len(skipped):,}" + f" ({whys})" * bool(whys)
    texts = [Text(f"kept {len(kept):,} recordings {counts}"), *map(Text, latents(manifest))]
    noted = sorted((s for s in files if s.note not in ("", NOT_AUDIO)), key=_importance)
    texts += [Text(f"  {printable(source.path)}: {printable(source.note)}") for source in noted[:LISTED]]
    if len(noted) > LISTED:
        texts.append(Text(f"  ... and {len(noted) - LISTED:,} more, see {FILE_NAME}"))
    if other:
        texts.append(Text(f"  not audio: {_endings(skipped)}"))
    texts += [Text(line) for line in copies(manifest)]
    wanted = {"train": 1.0, "valid": manifest.settings.get("valid"), "test": manifest.settings.get("test")}
    texts += [
        Text(f"the split {name} is empty: more recordings would fill it")
        for name, share in wanted.items()
        if share and name not in manifest.splits
    ]
    return texts + [Text(line) for line in split_warnings(manifest)]


def latents(manifest: Manifest) -> list[str]:
    """Which latents the chunks hold, if they hold no audio."""
    about = manifest.settings.get("latents")
    if not isinstance(about, dict):
        return []
    family, model, rows, frames = (
        printable(f"{about.get(key)!s:.40}") for key in ("family", "model", "rows", "frames")
    )
    found = [f"latents, not audio: {rows} numbers a frame, {frames} frames a chunk, by the {family} {model}"]
    if isinstance(labels := about.get("labels"), list) and labels:
        names = ", ".join(printable(f"{label!s:.100}") for label in labels[:MOST_LABELS])
        found.append(f"{len(labels):,} labels: {names}" + (", ..." if len(labels) > MOST_LABELS else ""))
    return found


def copies(manifest: Manifest) -> list[str]:
    """Which recordings have the same sound as others, and whether they are on both sides of a split."""
    split = {source.path: source.split for source in manifest.sources if source.split is not None}
    found = [source for source in manifest.sources if source.copy_of and source.split is not None]
    if not found:
        return []
    lines = [f"{len(found):,} recordings have the same sound as another"]
    for source in found[:LISTED]:
        same = source.split == split.get(source.copy_of)
        where = f"both in {source.split}" if same else f"in {source.split} and {split.get(source.copy_of)}"
        lines.append(f"  {printable(source.path)} is a copy of {printable(source.copy_of)}, {where}")
    if len(found) > LISTED:
        lines.append(f"  ... and {len(found) - LISTED:,} more, see copy_of in {FILE_NAME}")
    apart = sum(source.split != split.get(source.copy_of) for source in found)
    if apart:
        lines.append(f"warning: {apart:,} copies are in another split than their originals: held-out measures mislead")
    return lines


def split_warnings(manifest: Manifest) -> list[str]:
    """What is unusual about the sizes of the splits."""
    lines = []
    hours = {name: level.hours for name, level in manifest.levels.items()}
    train, total = hours.get("train", 0.0), math.fsum(hours.values())
    if 0 < train < LEAST_TRAINING * total:
        lines.append(
            f"only {100 * train / total:.0f} % of the audio is for training: lower --valid or --test, or add recordings"
        )
    share = padding(manifest)
    if share > MOST_PADDING:
        short = sum(
            s.split is not None and 0 < s.duration_s < manifest.samples / manifest.rate for s in manifest.sources
        )
        advice = "" if manifest.settings.get("join_short") else ": --join-short lets them share chunks"
        lines.append(
            f"{100 * share:.0f} % of the chunks is padding, as {short:,} recordings are shorter than a chunk{advice}"
        )
    held = manifest.chunks("valid") if "valid" in manifest.splits else 0
    if 0 < held < LEAST_HELD_OUT:
        lines.append(
            f"only {held} chunks are held out, so measures are noisy: add recordings, or build with a larger --valid"
        )
    return lines


def padding(manifest: Manifest) -> float:
    """The share of all chunks' samples that is silence behind or between recordings shorter than a chunk."""
    length = manifest.samples / manifest.rate
    chunks = sum(manifest.chunks(name) for name in manifest.splits)
    empty = 0.0
    for source in manifest.sources:
        if source.members is not None:
            empty += source.chunks * length - sum(count for _, _, count in source.members) / manifest.rate
        elif source.chunks == 1:
            empty += max(0.0, length - source.duration_s)
    return empty / (chunks * length) if chunks else 0.0


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
