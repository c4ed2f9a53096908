"""Parts -> one data set: the shards go to their places, and ``dataset.json`` names them all, from one moment on."""

import re
from dataclasses import asdict, dataclass
from pathlib import Path

from shards.audio.belief import is_serious
from shards.building import report
from shards.building.build_folder import BuildFolder
from shards.building.lease import Lease, holder
from shards.building.part import PartResult, skipped
from shards.building.plan import LISTED, Part, Plan
from shards.building.probe import NOT_AUDIO
from shards.errors import DataError
from shards.files import remove_leftovers, sync
from shards.manifest import FILE_NAME, Level, Manifest, Shard

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
        if not merge_plan(build_folder, plan):
            raise DataError(f"another process merges {out_dir} just now ({holder(build_folder.lease('merge'))})")
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
    return [part for part in plan.parts if not _is_finished(build_folder, build_folder.result(plan.key, part))]


def _is_finished(build_folder: BuildFolder, result: Path) -> bool:
    if not result.exists():
        return False
    return all(_place(build_folder, made.shard) for made in PartResult.load(result).shards)


def _place(build_folder: BuildFolder, shard: Shard) -> Path | None:
    """Where a shard lies: in build_folder, or in its place when a merge was interrupted."""
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


def merge_plan(build_folder: BuildFolder, plan: Plan) -> bool:
    """Put the finished parts of a plan together; False when another process is doing it."""
    lease = Lease.take(build_folder.lease("merge"))
    if lease is None:
        return False
    with lease:
        waiting = open_plan(build_folder)
        if waiting is None or waiting.key != plan.key:
            return True  # another process has just merged it
        results = [PartResult.load(build_folder.result(plan.key, part)) for part in plan.parts]
        base = Manifest.load(build_folder.out) if plan.base else None
        manifest = _merged(plan, base, results)
        if not manifest.splits:
            build_folder.clear()
            first = next(source for source in manifest.sources if source.note != NOT_AUDIO)
            raise DataError(f"no recording in {plan.audio_dir} could be read ({first.path}: {first.note})")
        for made in (made for result in results for made in result.shards):
            place, target = _place(build_folder, made.shard), build_folder.out / made.shard.file
            if place is None:
                raise DataError(f"shard {made.shard.file} is missing in {build_folder.shards}: run the build again")
            if place != target:
                place.replace(target)
        sync(build_folder.out)
        manifest.save(build_folder.out)
        remove_leftovers(build_folder.out)
        build_folder.clear()
    return True


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
    settings = asdict(plan.settings)
    return Manifest(
        **{name: settings.pop(name) for name in ("rate", "samples", "hop", "level")},
        settings=settings,
        splits=dict(sorted(splits.items())),
        levels={split: Level.of([s for s in sources if s.split == split]) for split in sorted(splits)},
        sources=sources,
    )
