"""Recordings -> shards: make or find the plan, run its parts in worker processes, merge when all are there."""

import os
import time
from collections import Counter
from dataclasses import asdict, replace
from pathlib import Path
from typing import Literal

from shards.audio.mixing import MEAN, parse_channels
from shards.building import report
from shards.building.build_folder import NAME, BuildFolder
from shards.building.merge import (
    Task,
    check_strict,
    describe_missing,
    merge_plan,
    missing,
    open_plan,
)
from shards.building.plan import Plan, Settings, make_plan
from shards.building.probe import NOT_AUDIO, Candidate, find_files, probe, recheck
from shards.building.running import run_parts
from shards.building.workers import Workers, count_done, open_workers
from shards.errors import DataError
from shards.files.hashing import xxh3_of
from shards.files.lease import Lease, holder
from shards.manifest import FILE_NAME, Manifest, Source
from shards.progress import progress
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
    level: Literal["peak", "rms", "robust", "none"] = "peak",
    valid: float = 0.1,
    test: float = 0.0,
    chunks_per_shard: int = 2048,
    max_silence: float = 1.0,
    workers: int = 0,
    task: str = "",
    group_by: str = "",
    splits: str = "",
    copies: Literal["together", "ignore"] = "together",
    use_channels: str = MEAN,
    join_short: bool = False,
    split_by_folder: bool = False,
    valid_within: bool = False,
    reread: bool = False,
    strict: bool = False,
    dry_run: bool = False,
    seconds: float = 0.0,
    channels: int = 1,
    keep_one_sided: bool = False,
) -> None:
    """Turn a folder of recordings into shards; run it again to continue, or to add recordings that came later.

    Args:
        audio_dir: Folder of recordings, searched with all its subfolders.
        out_dir: Data folder to make, or to add the new ones of the recordings to.
        rate: Sample rate of the chunks in Hz.
        samples: Samples per chunk; 0 is one second.
        seconds: Seconds per chunk, such as 3, in place of `samples`.
        hop: Samples from one chunk of a recording to the next; less than a chunk makes them overlap. 0 is half a chunk.
        level: Loudness of each recording: peak at 0.95, RMS at -20 dBFS, robust (as peak, but clicks do not count), or
            left as it is.
        valid: Share of the audio held out to evaluate during training, as whole recordings.
        test: Share of the audio held out for a last test.
        chunks_per_shard: About how many chunks go into one shard.
        max_silence: Largest share of a recording's chunks that may be silent; more of them are left out.
        workers: Worker processes; 0 is one for each core.
        task: Build only the part I/N of the work, such as 3/16; the last task to finish merges.
        group_by: Recordings that stay in one split: `folder` for those of each folder, a regular expression that finds
            the name of the group in the path, or a CSV file with the columns path and group.
        splits: CSV file with the columns path and split (train, valid or test) for all recordings.
        copies: Recordings with the same sound as another go into its split (`together`), or are only named (`ignore`).
        channels: Channels of the chunks: 1 for mono, 2 for stereo. A recording with one channel gives both sides.
        use_channels: Channels of a recording that are mixed to mono: mean (of all), left, right, louder, or numbers
            such as 1,2. For stereo mean is the first two, two numbers are left and right, and one is both.
        keep_one_sided: Leave a silent side of stereo silent. Without it the side with sound goes to both.
        join_short: Let recordings shorter than a chunk share chunks, with short silences between them.
        split_by_folder: Take the splits from the folders train, valid and test in the audio folder.
        valid_within: Hold out the end of each recording instead of whole recordings.
        reread: Read all recordings again to see whether they have changed, also where size and time are the same.
        strict: Fail when any audio file had to be skipped, or is damaged or suspicious.
        dry_run: Look at all files, print what the build would do, write nothing, and end.
    """
    samples = _samples(samples, seconds, rate)
    settings = Settings(
        rate=rate,
        samples=samples,
        hop=hop or max(1, samples // 2),
        level=level,
        valid=valid,
        test=test,
        chunks_per_shard=chunks_per_shard,
        max_silence=max_silence,
        group_by=group_by,
        splits=splits,
        split_by_folder=split_by_folder,
        valid_within=valid_within,
        copies=copies,
        use_channels=use_channels,
        join_short=join_short,
        channels=channels,
        keep_one_sided=keep_one_sided,
    )
    _check(settings, workers)
    share = Task.parse(task)
    audio_dir, out_dir = _check_folders(audio_dir, out_dir)
    build_folder = BuildFolder(out_dir)
    count = workers or len(os.sched_getaffinity(0))
    look = _Look(audio_dir, settings, reread)
    if dry_run:
        if (plan := build_folder.load_plan()) is not None:
            _check_continues(plan, settings, build_folder)
        with open_workers(count) as pool:
            report.show_plan(look.plan(pool, build_folder.out), out_dir)
        return
    try:
        with build_folder.explaining(), _lease(build_folder, share), open_workers(count) as pool:
            outcome = _build(pool, look, build_folder, share)
    finally:
        build_folder.leave()
    if outcome is None:
        return
    manifest = Manifest.load(out_dir)
    report.show_build(manifest, f"{out_dir}{outcome}")
    check_strict(manifest, out_dir, strict)


def _samples(samples: int, seconds: float, rate: int) -> int:
    """Samples of a chunk, which may be given in seconds. Raises DataError for both, and for no length of time."""
    if not seconds:
        return samples or rate
    if samples:
        raise DataError("--samples and --seconds are both given: leave one of them out")
    if not (0 < seconds < float("inf")):
        raise DataError(f"--seconds {seconds:g}: the length of a chunk is above 0 and finite")
    return max(1, round(seconds * rate))


def _check(settings: Settings, count: int) -> None:
    for name, least in (("rate", 1), ("samples", 1), ("chunks_per_shard", 1)):
        if getattr(settings, name) < least:
            raise DataError(f"--{name} must be at least {least}")
    if settings.channels not in (1, 2):
        raise DataError(f"--channels {settings.channels}: give 1 for mono or 2 for stereo")
    if settings.keep_one_sided and settings.channels == 1:
        raise DataError("--keep_one_sided has no meaning for mono: leave it out, or build with --channels 2")
    if settings.samples * settings.channels >= 2**30:
        most = "2**30" if settings.channels == 1 else "2**29 in stereo"
        raise DataError(f"--samples must be less than {most}: a WAV file cannot be larger")
    if not 1 <= settings.hop <= settings.samples:
        raise DataError(f"--hop must be between 1 and the {settings.samples} samples of a chunk: none may be lost")
    if not (settings.valid >= 0 and settings.test >= 0 and settings.valid + settings.test < 1):
        raise DataError("--valid and --test are shares of the recordings: from 0, together less than 1")
    if not 0 <= settings.max_silence <= 1:
        raise DataError("--max_silence is a share of a recording's chunks: from 0 to 1")
    try:
        parse_channels(settings.use_channels, settings.channels)
    except ValueError as error:
        raise DataError(f"--use_channels {error}") from None
    if count < 0:
        raise DataError("--workers must be 0 (one for each core) or more")
    given = [f"--{name}" for name in ("splits", "split_by_folder", "valid_within") if getattr(settings, name)]
    if len(given) > 1:
        raise DataError(f"{' and '.join(given)} contradict each other: give one of them")
    if given and settings.group_by:
        raise DataError(f"--group_by has no meaning with {given[0]}: leave one of them out")


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


def _build(pool: Workers, look: "_Look", build_folder: BuildFolder, share: Task) -> str | None:
    """Do this share of the work. Returns the outcome in words, or None when other tasks have to finish."""
    start, seconds, outcome = time.monotonic(), 0.0, " is complete: nothing to do"
    while True:
        plan, is_new = _find_plan(pool, look, build_folder)
        if plan is None:
            break
        build_folder.note_tasks(share.count)
        seconds += _run_share(pool, build_folder, plan, share)
        absent = missing(build_folder, plan)
        if absent and build_folder.plan.exists():
            what = f"task {share} is done; {describe_missing(build_folder, plan, absent)}. The last task merges them; "
            print(printable(f"{what}so does: python -m shards merge {build_folder.out}"))
            return None
        merged = merge_plan(build_folder, plan, lambda plan, parts: run_parts(pool, build_folder, plan, parts))
        if merged == "amended":
            continue
        if merged == "busy":
            other = holder(build_folder.lease("merge"))
            print(printable(f"task {share}: all parts are done, another task merges them ({other})"))
            return None
        outcome = ": done"
        if is_new or share.count > 1:
            break
        # What a stopped build had planned is done: now for the files that came after it was planned.
    elapsed = time.monotonic() - start
    return outcome + (f" in {elapsed:.1f} s, {seconds / elapsed:,.0f} x real time" if seconds else "")


def _find_plan(pool: Workers, look: "_Look", build_folder: BuildFolder) -> tuple[Plan | None, bool]:
    """The plan of what is to be done, and whether this process made it; None when there is nothing to do.

    One process makes it while the others wait.
    """
    settings = look.settings
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
        plan = look.plan(pool, build_folder.out)
        return (build_folder.publish(plan), True) if plan.sources else (None, True)


def _check_continues(plan: Plan, settings: Settings, build_folder: BuildFolder) -> None:
    differing = settings.differing(asdict(plan.settings))
    if differing:
        raise DataError(
            f"{build_folder.out} holds an unfinished build with other settings ({differing}): run it with these, "
            f"build into another folder, or delete {build_folder.folder} first"
        )


class _Look:
    """A look at all files of an audio folder."""

    def __init__(self, audio_dir: Path, settings: Settings, reread: bool):
        self.audio_dir, self.settings, self._reread = audio_dir, settings, reread

    def plan(self, pool: Workers, out: Path) -> Plan:
        """What is to be done. Raises DataError when nothing can be."""
        manifest = _built(out, self.settings)
        files, closed = find_files(self.audio_dir)
        for folder in closed:
            report.line(f"warning: this folder cannot be listed, so its recordings are left out: {folder}")
        if not files:
            raise DataError(f"{self.audio_dir} holds no file: give the folder of your recordings")
        candidates = self._told_apart(pool, self._candidates(pool, files, manifest), manifest)
        plan = make_plan(self.settings, candidates, manifest, self.audio_dir)
        if manifest is None and not plan.parts:
            problems = [c for c in candidates if c.problem != NOT_AUDIO] or candidates
            reasons = "; ".join(f"{c.path}: {c.problem}" for c in problems[:3])
            raise DataError(f"nothing in {self.audio_dir} can be read as audio ({reasons})")
        return plan

    def _candidates(self, pool: Workers, files: list[str], manifest: Manifest | None) -> list[Candidate]:
        """All files, in order; those that the data set holds already are looked at only where they have changed."""
        known = {s.path: s for s in (manifest.sources if manifest else []) if s.split is not None}
        pairs = [(path, known.get(path)) for path in files]
        groups = [pairs[i : i + FILES_PER_JOB] for i in range(0, len(pairs), FILES_PER_JOB)]
        jobs = [(self.audio_dir, self.settings, group, self._reread) for group in groups]
        with progress("looking at files", len(files)) as update:
            found = pool.run(_look_at, jobs, update)
        return [candidate for group in found for candidate in group]

    def _told_apart(self, pool: Workers, candidates: list[Candidate], manifest: Manifest | None) -> list[Candidate]:
        """Reads files whole whose beginnings and ends are those of others, to see whether they are the same."""
        counts = Counter(c.fingerprint for c in candidates if not c.problem)
        known = {source.path for source in manifest.sources if source.split is not None} if manifest else set()
        alike = [i for i, c in enumerate(candidates) if counts[c.fingerprint] > 1 and c.path not in known]
        with progress("comparing files", len(alike)) as update:
            hashes = pool.run(_hash_one, [(self.audio_dir, candidates[i].path) for i in alike], update)
        found = dict(zip(alike, hashes, strict=True))
        return [replace(c, content=found[i]) if i in found else c for i, c in enumerate(candidates)]


def _built(out_dir: Path, settings: Settings) -> Manifest | None:
    """The data set to add to. Raises DataError when it was built with other settings or is not whole."""
    if not (out_dir / FILE_NAME).exists():
        return None
    manifest = Manifest.load(out_dir)
    built = {name: getattr(manifest, name) for name in ("rate", "samples", "hop", "level", "channels")}
    differing = settings.differing(built | manifest.settings)
    if differing:
        raise DataError(f"{out_dir} was built with {differing}: build into another folder, or delete {out_dir} first")
    for name in manifest.splits:
        manifest.check_shards(out_dir, name)
    return manifest


def _look_at(
    audio_dir: Path, settings: Settings, files: list[tuple[str, Source | None]], reread: bool
) -> list[Candidate]:
    found = []
    for path, known in files:
        if known is None:
            found.append(probe(audio_dir, path))
        else:
            found.append(recheck(audio_dir, path, known, settings.decoder, reread))
        count_done(1)
    return found


def _hash_one(audio_dir: Path, path: str) -> str:
    try:
        return xxh3_of(audio_dir / path)
    except OSError:  # the build will say so
        return ""
    finally:
        count_done(1)


def _run_share(pool: Workers, build_folder: BuildFolder, plan: Plan, share: Task) -> float:
    """Build the missing parts of a share. Returns how many seconds of audio that was."""
    mine = {part.index: part for part in share.of(plan)}
    todo = [part for part in missing(build_folder, plan) if part.index in mine]
    if not build_folder.plan.exists():  # another task has merged everything just now
        return 0.0
    if len(todo) < len(mine):
        report.line(f"continuing: {len(mine) - len(todo)} of {len(mine)} parts are done")
    return run_parts(pool, build_folder, plan, todo)
