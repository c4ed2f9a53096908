"""Parts -> one data set: the shards go to their places, and ``dataset.json`` names them all, from one moment on."""

import os
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from shards.audio.belief import is_serious
from shards.building import report
from shards.building.build_folder import BuildFolder
from shards.building.part import PartResult, skipped
from shards.building.plan import Part, Plan
from shards.building.probe import NOT_AUDIO
from shards.building.running import run_parts
from shards.building.settle import load_all, settled
from shards.building.workers import open_workers
from shards.errors import DataError
from shards.files import remove_leftovers, sync
from shards.files.lease import Lease, holder
from shards.manifest import FILE_NAME, Level, Listed, Manifest, Shard

LISTED = 5  # tasks named in an error
TASK = re.compile(r"([1-9]\d{0,5})/([1-9]\d{0,5})")


@dataclass(frozen=True)
class Task:
    """The share of the parts that one command builds: number ``index``, counted from 1, of ``count``."""

    index: int = 1
    count: int = 1

    @classmethod
    def parse(cls, text: str) -> "Task":
        """Read ``3/16``; empty is the whole. Raises DataError."""
        if not text:
            return cls()
        found = TASK.fullmatch(text)
        if not found or int(found[1]) > int(found[2]):
            raise DataError(f"--task {text} is none: give I/N, such as 3/16 for the third of 16 tasks")
        return cls(int(found[1]), int(found[2]))

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"

    def of(self, plan: Plan) -> list[Part]:
        """The parts of a plan that belong to this task."""
        return plan.parts[self.index - 1 :: self.count]


def merge(out_dir: Path, strict: bool = False) -> None:
    """Finish a build by array tasks, when all of them have done their parts.

    Args:
        out_dir: Data folder that the tasks have built into.
        strict: Fail when any audio file had to be skipped, or is damaged or suspicious.
    """
    build_folder = BuildFolder(out_dir.resolve())
    plan = open_plan(build_folder)
    if plan is None:
        if not (out_dir / FILE_NAME).exists():
            raise DataError(
                f"{out_dir} holds no build to merge. Run first: python -m shards build AUDIO_DIR {out_dir} --task 1/N"
            )
        manifest = Manifest.load(out_dir)
        report.show_build(manifest, f"{out_dir} is complete: nothing to merge")
    else:
        absent = missing(build_folder, plan)
        if absent:
            raise DataError(f"{describe_missing(build_folder, plan, absent)}. {_remedy(build_folder, plan, absent)}")
        with build_folder.explaining(), open_workers(len(os.sched_getaffinity(0))) as pool:
            outcome = merge_plan(build_folder, plan, lambda plan, parts: run_parts(pool, build_folder, plan, parts))
        if outcome == "busy":
            raise DataError(f"another process merges {out_dir} just now ({holder(build_folder.lease('merge'))})")
        if outcome == "amended":
            raise DataError(f"another process has just changed the plan of {out_dir}: run the same command again")
        manifest = Manifest.load(out_dir)
        report.show_build(manifest, f"{out_dir}: merged")
    build_folder.leave()
    check_strict(manifest, out_dir, strict)


def check_strict(manifest: Manifest, out_dir: Path, strict: bool) -> None:
    """Raise DataError when --strict is set and a recording was skipped, or is damaged or suspicious."""
    missed = sum(source.split is None and source.note != NOT_AUDIO for source in manifest.sources)
    lost = sum(source.split is not None and is_serious(source.note) for source in manifest.sources)
    if strict and (missed or lost):
        more = f", {lost} are damaged or suspicious" if lost else ""
        raise DataError(f"{missed} audio files were skipped{more} and --strict is set: see {out_dir / FILE_NAME}")


def open_plan(build_folder: BuildFolder) -> Plan | None:
    """The plan that waits to be carried out. Raises DataError when it does not fit the data set."""
    plan = build_folder.load_plan()
    if plan is None:
        return None
    manifest = Manifest.load(build_folder.out) if (build_folder.out / FILE_NAME).exists() else None
    if manifest and _holds(manifest, plan):  # the process that merged it was killed before the last step
        remove_leftovers(build_folder.out)
        build_folder.clear()
        return None
    if plan.base != (manifest.fingerprint if manifest else ""):
        raise DataError(
            f"{build_folder.folder} belongs to another state of {build_folder.out / FILE_NAME}: "
            f"delete {build_folder.folder}"
        )
    return plan


def _holds(manifest: Manifest, plan: Plan) -> bool:
    listed = manifest.sources
    return all(
        row < len(listed) and (listed[row].path, listed[row].fingerprint) == (candidate.path, candidate.fingerprint)
        for row, candidate in plan.sources.items()
    )


def missing(build_folder: BuildFolder, plan: Plan) -> list[Part]:
    """The parts that are not finished, or have lost a shard since."""
    return [part for part in plan.parts if not _is_finished(build_folder, build_folder.result(part))]


def _is_finished(build_folder: BuildFolder, result: Path) -> bool:
    if not result.exists():
        return False
    return all(_place(build_folder, file) for file in _files(PartResult.load(result)))


def _files(result: PartResult) -> list[Shard | Listed]:
    """What a part has written."""
    return [*(made.shard for made in result.shards), *([result.prints] if result.prints else [])]


def _place(build_folder: BuildFolder, shard: Shard | Listed) -> Path | None:
    """Where a file lies: in build_folder, or in its place when a merge was interrupted."""
    for folder in (build_folder.shards, build_folder.out):
        path = folder / shard.file
        if path.exists() and path.stat().st_size == shard.bytes:
            return path
    return None


def describe_missing(build_folder: BuildFolder, plan: Plan, absent: list[Part]) -> str:
    """How much is missing, and whose work it is."""
    count = build_folder.task_count()
    first = plan.first_part
    tasks = sorted({(part.index - first) % count + 1 for part in absent})
    named = ", ".join(f"{task}/{count}" for task in tasks[:LISTED]) + (", ..." if len(tasks) > LISTED else "")
    whose = f" (tasks {named})" if count > 1 else ""
    return f"{len(absent)} of {len(plan.parts)} parts of {build_folder.out} are missing{whose}"


def _remedy(build_folder: BuildFolder, plan: Plan, absent: list[Part]) -> str:
    count = build_folder.task_count()
    task = f" --task {(absent[0].index - plan.first_part) % count + 1}/{count}" if count > 1 else ""
    other = " and so on, or all of them without --task" if task else ""
    return f"Run: python -m shards build {plan.audio_dir} {build_folder.out}{task}{other}"


def merge_plan(
    build_folder: BuildFolder, plan: Plan, rebuild: Callable[[Plan, list[Part]], object]
) -> Literal["merged", "busy", "amended"]:
    """Put the finished parts of a plan together.

    Now that all recordings are decoded, copies are found. Where they belong to another split than the plan says, it is
    amended, and ``rebuild`` makes their parts again. Returns ``busy`` when another process merges, and ``amended`` when
    another one has amended the plan and was ended before it had made all parts.
    """
    lease = Lease.take(build_folder.lease("merge"))
    if lease is None:
        return "busy"
    with lease:
        waiting = open_plan(build_folder)
        if waiting is None:
            return "merged"  # another process has just done it
        if waiting.key != plan.key:
            same = (waiting.base, waiting.sources.keys()) == (plan.base, plan.sources.keys())
            return "amended" if same else "merged"
        base = Manifest.load(build_folder.out) if plan.base else None
        if not plan.settled:
            plan = _settle(build_folder, plan, base, rebuild)
        results = [PartResult.load(build_folder.result(part)) for part in plan.parts]
        manifest = _merged(plan, base, results)
        if not manifest.splits:
            build_folder.clear()
            first = next(source for source in manifest.sources if source.note != NOT_AUDIO)
            raise DataError(f"no recording in {plan.audio_dir} could be read ({first.path}: {first.note})")
        for file in (file for result in results for file in _files(result)):
            place, target = _place(build_folder, file), build_folder.out / file.file
            if place is None:
                raise DataError(f"{file.file} is missing in {build_folder.shards}: run the build again")
            if place != target:
                place.replace(target)
        sync(build_folder.out)
        manifest.save(build_folder.out)
        remove_leftovers(build_folder.out)
        build_folder.clear()
    return "merged"


def _settle(
    build_folder: BuildFolder, plan: Plan, base: Manifest | None, rebuild: Callable[[Plan, list[Part]], object]
) -> Plan:
    """The plan with its copies, after the parts are made again whose recordings change their split."""
    results = {part.key: PartResult.load(build_folder.result(part)) for part in plan.parts}
    made = {row: source for result in results.values() for row, source in result.sources.items()}
    listed = [result.prints for result in results.values() if result.prints]
    prints = load_all(build_folder.out, base.prints if base else []) + load_all(build_folder.shards, listed, new=True)
    amended = settled(plan, base.sources if base else [], made, prints)
    again = [part for part in amended.parts if part.key not in results]
    moved = [row for row, one in amended.sources.items() if one.split != plan.sources[row].split]
    build_folder.amend(amended)
    if again:
        count = len({amended.sources[row].path for row in moved})
        report.line(
            f"{count} recordings change their split, as they are copies of others or others could not be read: "
            f"{len(again)} of {len(amended.parts)} parts are built again"
        )
        rebuild(amended, again)
    return amended


def _merged(plan: Plan, base: Manifest | None, results: list[PartResult]) -> Manifest:
    """The base with everything that the plan adds, behind what is there."""
    found = {row: skipped(c, c.problem) for row, c in plan.sources.items() if c.problem}
    splits = {split: list(shards) for split, shards in base.splits.items()} if base else {}
    for result in results:
        found |= result.sources
        for made in result.shards:
            splits.setdefault(made.split, []).append(made.shard)
    sources = list(base.sources) if base else []
    for row, source in sorted(found.items()):
        sources[row : row + 1] = [source]
    for row, first in plan.copies.items():
        if row in found:
            sources[row] = replace(sources[row], copy_of=sources[first].path)
    settings = plan.settings.content()
    settings.setdefault("channels", 1)
    return Manifest(
        **{name: settings.pop(name) for name in ("rate", "samples", "hop", "level", "channels")},
        settings=settings,
        splits=dict(sorted(splits.items())),
        levels={split: Level.of([s for s in sources if s.split == split]) for split in sorted(splits)},
        sources=sources,
        prints=[*(base.prints if base else []), *(result.prints for result in results if result.prints)],
    )
