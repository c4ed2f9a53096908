"""Recordings -> shards: plan, run the parts in worker processes, merge their results into the manifest."""

import fcntl
import math
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Literal

from shards.building import report
from shards.building.part import SCRATCH, Loudness, PartResult, build_part, result_path, skipped
from shards.building.plan import Candidate, Part, Plan, Settings, find_files, make_plan, probe
from shards.building.workers import Workers, count_done, open_workers
from shards.errors import DataError
from shards.files import sync, write_atomically
from shards.manifest import FILE_NAME, Level, Manifest, Shard, Source
from shards.progress import progress

FILES_PER_JOB = 64  # looked at per call of a worker


def build(
    audio_dir: Path,
    out_dir: Path,
    rate: int = 22050,
    samples: int = 22050,
    hop: int = 11025,
    level: Literal["peak", "rms", "none"] = "peak",
    valid: float = 0.1,
    test: float = 0.0,
    chunks_per_shard: int = 2048,
    workers: int = 0,
    strict: bool = False,
) -> None:
    """Turn a folder of recordings into shards for training; run it again to continue after a stop.

    Args:
        audio_dir: Folder of recordings, searched with all its subfolders.
        out_dir: Data folder to make.
        rate: Sample rate of the chunks in Hz.
        samples: Samples per chunk.
        hop: Samples from one chunk of a recording to the next; less than a chunk makes them overlap.
        level: Loudness of each recording: peak at 0.95, RMS at -20 dBFS, or left as it is.
        valid: Share of the recordings held out to evaluate during training.
        test: Share of the recordings held out for a last test.
        chunks_per_shard: About how many chunks go into one shard.
        workers: Worker processes; 0 is one for each core.
        strict: Fail when any audio file had to be skipped.
    """
    settings = Settings(rate, samples, hop, level, valid, test, chunks_per_shard)
    _check(settings, workers)
    audio_dir, out_dir = _check_folders(audio_dir, out_dir)
    files = find_files(audio_dir)
    if not files:
        raise DataError(f"{audio_dir} holds no file: give the folder of your recordings")
    start = time.monotonic()
    with open_workers(workers or len(os.sched_getaffinity(0))) as pool:
        plan = make_plan(settings, _probe_all(pool, audio_dir, files))
        finished = (out_dir / FILE_NAME).exists()
        if finished:
            manifest = Manifest.load(out_dir)
            _check_same(manifest, plan, out_dir)
        else:
            manifest = _build(pool, audio_dir, out_dir, plan)
    report.show_build(manifest, out_dir, None if finished else time.monotonic() - start)
    missed = sum(source.split is None and source.note != "not audio" for source in manifest.sources)
    if strict and missed:
        raise DataError(f"{missed} audio files were skipped and --strict is set: see {out_dir / FILE_NAME}")


def _check(settings: Settings, count: int) -> None:
    for name, least in (("rate", 1), ("samples", 1), ("chunks_per_shard", 1)):
        if getattr(settings, name) < least:
            raise DataError(f"--{name} must be at least {least}")
    if settings.samples >= 2**30:
        raise DataError("--samples must be less than 2**30: a WAV file cannot be larger")
    if not 1 <= settings.hop <= settings.samples:
        raise DataError(f"--hop must be between 1 and the {settings.samples} samples of a chunk: none may be lost")
    if not (settings.valid >= 0 and settings.test >= 0 and settings.valid + settings.test < 1):
        raise DataError("--valid and --test are shares of the recordings: from 0, together less than 1")
    if count < 0:
        raise DataError("--workers must be 0 (one for each core) or more")


def _check_folders(audio_dir: Path, out_dir: Path) -> tuple[Path, Path]:
    if not audio_dir.is_dir():
        raise DataError(f"{audio_dir} is not a folder: give the folder of your recordings")
    if out_dir.exists() and not out_dir.is_dir():
        raise DataError(f"{out_dir} is a file: name a folder to make")
    audio, out = audio_dir.resolve(), out_dir.resolve()
    if audio == out or audio in out.parents or out in audio.parents:
        raise DataError(f"{audio_dir} and {out_dir} lie in one another: build into a folder outside the recordings")
    ours = (out / FILE_NAME).exists() or (out / SCRATCH).is_dir()
    if out.exists() and not ours and any(out.iterdir()):
        raise DataError(f"{out_dir} holds other files: build into a new or empty folder")
    return audio, out


def _probe_all(pool: Workers, audio_dir: Path, files: list[str]) -> list[Candidate]:
    groups = [files[i : i + FILES_PER_JOB] for i in range(0, len(files), FILES_PER_JOB)]
    with progress("looking at files", len(files)) as update:
        found = pool.run(_probe_group, [(audio_dir, group) for group in groups], update)
    return [candidate for group in found for candidate in group]


def _probe_group(audio_dir: Path, files: list[str]) -> list[Candidate]:
    found = []
    for path in files:
        found.append(probe(audio_dir, path))
        count_done(1)
    return found


def _check_same(manifest: Manifest, plan: Plan, out_dir: Path) -> None:
    """Raise DataError unless a finished data set is what this command would build."""
    built = {"rate": manifest.rate, "samples": manifest.samples, "hop": manifest.hop, "level": manifest.level}
    built |= manifest.settings
    differing = [
        f"--{name} {built.get(name)}" for name, value in asdict(plan.settings).items() if built.get(name) != value
    ]
    remedy = f"build into another folder, or delete {out_dir} first"
    if differing:
        raise DataError(f"{out_dir} was built with {' '.join(differing)}: {remedy}")
    if [(s.path, s.fingerprint) for s in manifest.sources] != [(c.path, c.fingerprint) for c in plan.candidates]:
        raise DataError(f"the recordings have changed since {out_dir} was built: {remedy}")
    for name in manifest.splits:
        manifest.check_sizes(out_dir, name)


def _build(pool: Workers, audio_dir: Path, out_dir: Path, plan: Plan) -> Manifest:
    if not plan.parts:
        reasons = "; ".join(f"{c.path}: {c.problem}" for c in plan.candidates[:3])
        raise DataError(f"nothing in {audio_dir} can be read as audio ({reasons})")
    scratch = out_dir / SCRATCH
    scratch.mkdir(parents=True, exist_ok=True)
    with _lock(scratch):
        _check_continues(scratch / "plan", plan, out_dir)
        todo = [part for part in plan.parts if not _is_finished(out_dir, part)]
        if len(todo) < len(plan.parts):
            report.line(f"continuing: {len(plan.parts) - len(todo)} of {len(plan.parts)} parts are done")
        seconds = sum(candidate.seconds for part in todo for candidate in part.sources.values())
        with progress("building", seconds) as update:
            pool.run(_run_part, [(audio_dir, out_dir, plan.settings, part) for part in todo], update)
        manifest = _merge(plan, [PartResult.load(result_path(out_dir, part.index)) for part in plan.parts])
        if not any(manifest.splits.values()):
            shutil.rmtree(scratch)
            first = next(s for s in manifest.sources if s.note != "not audio")
            raise DataError(f"no recording in {audio_dir} could be read ({first.path}: {first.note})")
        manifest.save(out_dir)
        shutil.rmtree(scratch)
        sync(out_dir)
    return manifest


def _check_continues(path: Path, plan: Plan, out_dir: Path) -> None:
    """Note the plan at the first run; raise DataError when a later one has another."""
    if not path.exists():
        write_atomically(path, plan.key)
    elif path.read_text() != plan.key:
        raise DataError(
            f"{out_dir} holds an unfinished build with other settings or recordings: "
            f"build into another folder, or delete {out_dir} first"
        )


def _is_finished(out_dir: Path, part: Part) -> bool:
    """Whether an earlier run made this part and its shards are still there."""
    path = result_path(out_dir, part.index)
    if not path.exists():
        return False
    shards = [shard for _, shard in PartResult.load(path).shards]
    files = [(out_dir / shard.file, shard.bytes) for shard in shards]
    return all(file.exists() and file.stat().st_size == size for file, size in files)


def _merge(plan: Plan, results: list[PartResult]) -> Manifest:
    sources = {row: skipped(c, c.problem) for row, c in enumerate(plan.candidates) if c.problem}
    splits: dict[str, list[Shard]] = {}
    loudness: dict[str, Loudness] = {}
    for result in results:
        sources |= result.sources
        for split, shard in result.shards:
            splits.setdefault(split, []).append(shard)
        for split, sums in result.loudness.items():
            loudness.setdefault(split, Loudness()).merge(sums)
    listed = [sources[row] for row in range(len(plan.candidates))]
    settings = asdict(plan.settings)
    return Manifest(
        **{name: settings.pop(name) for name in ("rate", "samples", "hop", "level")},
        settings=settings,
        splits=dict(sorted(splits.items())),
        levels={split: _level(plan, split, sums, listed) for split, sums in sorted(loudness.items())},
        sources=listed,
    )


def _level(plan: Plan, split: str, sums: Loudness, sources: list[Source]) -> Level:
    seconds = math.fsum(source.duration_s for source in sources if source.split == split)
    samples = sums.chunks * plan.settings.samples
    return Level(
        chunks=sums.chunks,
        hours=round(seconds / 3600, 6),
        rms=round(math.sqrt(sums.squares / samples) / 32768, 6),
        peak=round(sums.peak / 32768, 6),
        silent_chunks=sums.silent,
    )


def _run_part(audio_dir: Path, out_dir: Path, settings: Settings, part: Part) -> None:
    build_part(audio_dir, out_dir, settings, part, count_done)


@contextmanager
def _lock(scratch: Path) -> Iterator[None]:
    with open(scratch / "lock", "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DataError(f"another build is writing to {scratch.parent}: wait for it or end it") from None
        yield
