"""Parts of a plan carried out in worker processes."""

import math
import shutil
from pathlib import Path

from shards.building.build_folder import BuildFolder
from shards.building.part import PartResult, build_part
from shards.building.plan import Part, Plan, Settings
from shards.building.workers import Workers, count_done
from shards.files import sync
from shards.progress import audio_speed, progress

ROOM = 2.0  # times the disk space that is needed


def run_parts(pool: Workers, build_folder: BuildFolder, plan: Plan, parts: list[Part]) -> float:
    """Build parts. Returns how many seconds of audio that was.

    As long as it may turn out that recordings are copies of others, what is decoded stays, if there is room for it, so
    that it need not be decoded again for other splits.
    """
    keep = not plan.settled and _has_room(build_folder.out, plan)

    def finish(number: int, result: PartResult) -> None:
        """Sync the files here and not in the worker, which continues while the disk writes them."""
        for made in result.shards:
            sync(build_folder.shards / made.shard.file)
        sync(build_folder.shards)
        result.save(build_folder.result(parts[number]))
        if not keep:
            for folder in build_folder.work(parts[number]):
                shutil.rmtree(folder, ignore_errors=True)

    seconds = math.fsum(part.seconds for part in parts)
    with progress("building", seconds, audio_speed) as update:
        jobs = [(Path(plan.audio_dir), build_folder, plan.settings, part) for part in parts]
        pool.run(_run_part, jobs, update, finish)
    return seconds


def _has_room(folder: Path, plan: Plan) -> bool:
    """Whether the disk can hold the shards of a plan beside all its decoded audio, and has room left."""
    decoded = plan.settings.shape.frame * plan.settings.rate * math.fsum(part.seconds for part in plan.parts)
    shards = decoded * plan.settings.samples / plan.settings.hop
    return shutil.disk_usage(folder).free > ROOM * (decoded + shards)


def _run_part(audio_dir: Path, build_folder: BuildFolder, settings: Settings, part: Part) -> PartResult:
    return build_part(audio_dir, build_folder, settings, part, count_done)
