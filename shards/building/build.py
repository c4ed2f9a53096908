"""Recordings -> shards: make or find the plan, run its parts in worker processes, merge when all are there."""

import errno
import math
import os
import shutil
import time
from dataclasses import asdict
from pathlib import Path
from typing import Literal

from shards.building import report
from shards.building.build_folder import NAME, BuildFolder
from shards.building.lease import Lease, holder
from shards.building.merge import (
    Task,
    check_strict,
    describe_missing,
    merge_plan,
    missing,
    open_plan,
)
from shards.building.part import PartResult, build_part
from shards.building.plan import Part, Plan, Settings, make_plan
from shards.building.probe import NOT_AUDIO, Candidate, find_files, probe
from shards.building.workers import Workers, count_done, open_workers
from shards.errors import DataError
from shards.files import sync
from shards.manifest import FILE_NAME, Manifest
from shards.progress import audio_speed, progress
from shards.text import printable

FILES_PER_JOB = 64  # looked at per call of a worker
PLAN_LIMIT_S = 4 * 3600.0  # that another task may take to look at all files
REMARK_EVERY_S = 30.0


# The parameters are the flags of the command line.
def build(
    audio_dir: Path,
    out_dir: Path,
    rate: int = 22050,
    samples: int = 0,
    hop: int = 0,
    level: Literal["peak", "rms", "none"] = "peak",
    valid: float = 0.1,
    test: float = 0.0,
    chunks_per_shard: int = 2048,
    max_silence: float = 1.0,
    workers: int = 0,
    task: str = "",
    strict: bool = False,
    dry_run: bool = False,
) -> None:
    """Turn a folder of recordings into shards; run it again to continue, or to add recordings that came later.

    Args:
        audio_dir: Folder of recordings, searched with all its subfolders.
        out_dir: Data folder to make, or to add the new ones of the recordings to.
        rate: Sample rate of the chunks in Hz.
        samples: Samples per chunk; 0 is one second.
        hop: Samples from one chunk of a recording to the next; less than a chunk makes them overlap. 0 is half a chunk.
        level: Loudness of each recording: peak at 0.95, RMS at -20 dBFS, or left as it is.
        valid: Share of the recordings held out to evaluate during training.
        test: Share of the recordings held out for a last test.
        chunks_per_shard: About how many chunks go into one shard.
        max_silence: Largest share of a recording's chunks that may be silent; more of them are left out.
        workers: Worker processes; 0 is one for each core.
        task: Build only the part I/N of the work, such as 3/16; the last task to finish merges.
        strict: Fail when any audio file had to be skipped, or is damaged or suspicious.
        dry_run: Look at the arguments and at what is there, write nothing, and end.
    """
    samples = samples or rate
    settings = Settings(rate, samples, hop or max(1, samples // 2), level, valid, test, chunks_per_shard, max_silence)
    _check(settings, workers)
    share = Task.parse(task)
    audio_dir, out_dir = _check_folders(audio_dir, out_dir)
    build_folder = BuildFolder(out_dir)
    if dry_run:
        _built(out_dir, settings)
        if (plan := build_folder.load_plan()) is not None:
            _check_continues(plan, settings, build_folder)
        return
    try:
        with _lease(build_folder, share), open_workers(workers or len(os.sched_getaffinity(0))) as pool:
            outcome = _build(pool, audio_dir, build_folder, settings, share)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise DataError(
                f"{out_dir} cannot take more ({error.strerror}): make room and run the same command again to continue"
            ) from None
        raise
    finally:
        build_folder.leave()
    if outcome is None:
        return
    manifest = Manifest.load(out_dir)
    report.show_build(manifest, f"{out_dir}{outcome}")
    check_strict(manifest, out_dir, strict)


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
    if not 0 <= settings.max_silence <= 1:
        raise DataError("--max_silence is a share of a recording's chunks: from 0 to 1")
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
    names = set(os.listdir(out)) if out.exists() else set()  # at once: other tasks start at the same time
    if names and not names & {FILE_NAME, NAME}:
        raise DataError(f"{out_dir} holds other files: build into a new or empty folder")
    return audio, out


def _lease(build_folder: BuildFolder, share: Task) -> Lease:
    """The right to do this share of the work. Raises DataError when it, or one that overlaps it, is being done."""
    mine = build_folder.lease(f"task-{share.index}-of-{share.count}")
    lease = Lease.take(mine)
    if lease is None:
        raise DataError(_busy(build_folder, mine))
    for other in build_folder.folder.glob("task-*-of-*.lease"):
        if not other.stem.endswith(f"-of-{share.count}"):
            found = Lease.take(other)
            if found is None:
                lease.release()
                raise DataError(_busy(build_folder, other))
            found.release()
    return lease


def _busy(build_folder: BuildFolder, path: Path) -> str:
    what = path.stem.removeprefix("task-").replace("-of-", "/")
    who = "another build" if what == "1/1" else f"another build, task {what},"
    return f"{who} is writing to {build_folder.out} ({holder(path)}): wait for it or end it"


def _build(pool: Workers, audio_dir: Path, build_folder: BuildFolder, settings: Settings, share: Task) -> str | None:
    """Do this share of the work. Returns the outcome in words, or None when other tasks have to finish."""
    start, seconds, outcome = time.monotonic(), 0.0, " is complete: nothing to do"
    while True:
        plan, is_new = _find_plan(pool, audio_dir, build_folder, settings)
        if plan is None:
            break
        build_folder.note_tasks(share.count)
        seconds += _run_parts(pool, audio_dir, build_folder, plan, share)
        absent = missing(build_folder, plan)
        if absent and build_folder.plan.exists():
            what = f"task {share} is done; {describe_missing(build_folder, plan, absent)}. The last task merges them; "
            print(printable(f"{what}so does: python -m shards merge {build_folder.out}"))
            return None
        if not merge_plan(build_folder, plan):
            other = holder(build_folder.lease("merge"))
            print(printable(f"task {share}: all parts are done, another task merges them ({other})"))
            return None
        outcome = ": done"
        if is_new or share.count > 1:
            break
        # What a stopped build had planned is done: now for the files that came after it was planned.
    elapsed = time.monotonic() - start
    return outcome + (f" in {elapsed:.1f} s, {seconds / elapsed:,.0f} x real time" if seconds else "")


def _find_plan(
    pool: Workers, audio_dir: Path, build_folder: BuildFolder, settings: Settings
) -> tuple[Plan | None, bool]:
    """The plan of what is to be done, and whether this process made it; None when there is nothing to do.

    One process makes it while the others wait.
    """
    end, remark = time.monotonic() + PLAN_LIMIT_S, time.monotonic()
    path = build_folder.lease("plan")
    while True:
        plan = open_plan(build_folder)
        if plan is not None:
            _check_continues(plan, settings, build_folder)
            return plan, False
        lease = Lease.take(path)
        if lease is not None:
            break
        now = time.monotonic()
        if now > end:
            raise DataError(f"no plan after {PLAN_LIMIT_S / 3600:.0f} hours from {holder(path)}: end it and try again")
        if now >= remark:
            report.line(f"waiting while another task looks at the files ({holder(path)})")
            remark = now + REMARK_EVERY_S
        time.sleep(1.0)
    with lease:
        plan = open_plan(build_folder)
        if plan is not None:
            _check_continues(plan, settings, build_folder)
            return plan, False
        build_folder.clear()
        plan = _make_plan(pool, audio_dir, build_folder, settings)
        return (build_folder.publish(plan), True) if plan.sources else (None, True)


def _check_continues(plan: Plan, settings: Settings, build_folder: BuildFolder) -> None:
    differing = settings.differing(asdict(plan.settings))
    if differing:
        raise DataError(
            f"{build_folder.out} holds an unfinished build with other settings ({differing}): run it with these, "
            f"build into another folder, or delete {build_folder.folder} first"
        )


def _make_plan(pool: Workers, audio_dir: Path, build_folder: BuildFolder, settings: Settings) -> Plan:
    manifest = _built(build_folder.out, settings)
    files = find_files(audio_dir)
    if not files:
        raise DataError(f"{audio_dir} holds no file: give the folder of your recordings")
    groups = [files[i : i + FILES_PER_JOB] for i in range(0, len(files), FILES_PER_JOB)]
    with progress("looking at files", len(files)) as update:
        found = pool.run(_probe_group, [(audio_dir, group) for group in groups], update)
    candidates = [candidate for group in found for candidate in group]
    plan = make_plan(settings, candidates, manifest, audio_dir)
    if manifest is None and not plan.parts:
        problems = [c for c in candidates if c.problem != NOT_AUDIO] or candidates
        reasons = "; ".join(f"{c.path}: {c.problem}" for c in problems[:3])
        raise DataError(f"nothing in {audio_dir} can be read as audio ({reasons})")
    return plan


def _built(out_dir: Path, settings: Settings) -> Manifest | None:
    """The data set to add to. Raises DataError when it was built with other settings or is not whole."""
    if not (out_dir / FILE_NAME).exists():
        return None
    manifest = Manifest.load(out_dir)
    built = {"rate": manifest.rate, "samples": manifest.samples, "hop": manifest.hop, "level": manifest.level}
    differing = settings.differing(built | manifest.settings)
    if differing:
        raise DataError(f"{out_dir} was built with {differing}: build into another folder, or delete {out_dir} first")
    for name in manifest.splits:
        manifest.check_sizes(out_dir, name)
    return manifest


def _probe_group(audio_dir: Path, files: list[str]) -> list[Candidate]:
    found = []
    for path in files:
        found.append(probe(audio_dir, path))
        count_done(1)
    return found


def _run_parts(pool: Workers, audio_dir: Path, build_folder: BuildFolder, plan: Plan, share: Task) -> float:
    """Build the missing parts of a share. Returns how many seconds of audio that was."""
    mine = {part.index: part for part in share.of(plan)}
    todo = [part for part in missing(build_folder, plan) if part.index in mine]
    if not build_folder.plan.exists():  # another task has merged everything just now
        return 0.0
    if len(todo) < len(mine):
        report.line(f"continuing: {len(mine) - len(todo)} of {len(mine)} parts are done")

    def finish(number: int, result: PartResult) -> None:
        """Sync the shards here and not in the worker, which continues while the disk writes them."""
        for made in result.shards:
            sync(build_folder.shards / made.shard.file)
        sync(build_folder.shards)
        result.save(build_folder.result(plan.key, todo[number]))
        for folder in build_folder.work(plan.key, todo[number]):
            shutil.rmtree(folder, ignore_errors=True)

    seconds = math.fsum(part.seconds for part in todo)
    with progress("building", seconds, audio_speed) as update:
        jobs = [(audio_dir, build_folder, plan.key, plan.settings, part) for part in todo]
        pool.run(_run_part, jobs, update, finish)
    return seconds


def _run_part(audio_dir: Path, build_folder: BuildFolder, plan_key: str, settings: Settings, part: Part) -> PartResult:
    return build_part(audio_dir, build_folder, plan_key, settings, part, count_done)
