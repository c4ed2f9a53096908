"""The data folder of latents: whether it can be used, and its shards and manifest when all sequences are there."""

import re
import shutil
from dataclasses import replace
from pathlib import Path

import audiovae
from audiovae.priors.latents import LATENTS
from audiovae.saved.prior_folder import AUTOENCODER
from shards.building.shuffle import Shuffler
from shards.building.spool import PartShard, Piece, Spool
from shards.chunk import ChunkFormat
from shards.files import (
    canonical_json,
    check_folder,
    is_leftover,
    is_sealed,
    make_folder,
    read_object,
    remove_file,
    remove_leftovers,
    sealed,
    sync,
    write_atomically,
)
from shards.files.lease import Lease, holder
from shards.manifest import FILE_NAME, Manifest, Source
from shards.text import printable
from shards.tiling import chunk_starts
from train.encoding.job import FOLDER, LABELS, Job
from train.encoding.sequence_file import read_sequence
from train.errors import TrainError

ABOUT = "encoding.json"  # the model and the data of an unfinished encoding
SHARD_BYTES = 1 << 27  # about those of a shard


def finished(job: Job) -> Manifest | None:
    """The manifest of the data folder if it is finished; None if it is new or unfinished. Changes nothing.

    Raises:
        TrainError: when the folder holds something else, or latents of another model, of other data, with other
            labels or in other windows.
        DataError: when a shard is missing or of another size.
    """
    out = job.out
    if out.exists() and not out.is_dir():
        raise TrainError(f"{out}: not a folder; choose another one")
    if (out / FILE_NAME).exists():
        manifest = Manifest.load(out)
        _compare(job, manifest)
        for name in manifest.splits:
            manifest.check_shards(out, name)
        return manifest
    about = _about(job)
    names = {path.name for path in out.iterdir()} if out.exists() else set()
    other = sorted(name for name in names if name not in (FOLDER, AUTOENCODER) and not is_leftover(name))
    if about:
        other = [name for name in other if not _is_shard(job, name)]
    if other:
        raise TrainError(f"{out}: not empty ({printable(other[0])}) and no data folder; choose another folder")
    if about and about != job.identity:
        texts = {"model": "of another model", "data": "of other data", "labels": "with other labels"}
        what = next(text for name, text in texts.items() if about.get(name) != job.identity.get(name))
        raise TrainError(f"{job.folder}: an unfinished encoding {what}; choose another folder, or delete this one")
    return None


def _is_shard(job: Job, name: str) -> bool:
    """Whether a file has the name of a shard that an encoding of this data writes."""
    return any(re.fullmatch(re.escape(split) + r"-00000-\d{3,}\.tar", name) for split in job.manifest.splits)


def _compare(job: Job, there: Manifest) -> None:
    """Raises TrainError unless a manifest is that of this encoding."""
    latents = there.settings.get(LATENTS)
    if not isinstance(latents, dict):
        raise TrainError(f"{job.out}: holds another data set; choose another folder")
    if there.settings == job.settings:
        return
    if latents.get("model") != job.layout.model:
        what = "of another model"
    elif there.settings.get("encoded") != job.manifest.fingerprint:
        what = "of other data"
    elif there.settings.get(LABELS) != job.settings.get(LABELS):
        what = "with other labels"
    else:
        what = f"in windows of another length than --seconds gives: {latents.get('frames')} frames"
    raise TrainError(f"{job.out}: holds latents {what}; choose another folder")


def _about(job: Job) -> dict[str, str]:
    """What an unfinished encoding says of its model, data and labels; empty if there is none, or it is damaged."""
    try:
        content = read_object(job.folder / ABOUT)
        more = ("labels",) if "labels" in content else ()
        return {name: content[name] for name in ("model", "data", *more)} if is_sealed(content) else {}
    except (OSError, ValueError, KeyError):
        return {}


def begin(job: Job) -> Lease:
    """Makes the folder and takes it for this process.

    Raises:
        TrainError: when another process encodes into it.
        OSError: when it cannot be written.
    """
    make_folder(job.out)
    check_folder(job.folder)
    lease = Lease.take(job.folder / "encode.lease")
    if lease is None:
        who = holder(job.folder / "encode.lease")
        raise TrainError(f"{job.out}: another process encodes into this folder ({who}); wait for its end")
    try:
        remove_leftovers(job.folder)
        if not _about(job):
            write_atomically(job.folder / ABOUT, canonical_json(sealed(job.identity)), job.out)
    except BaseException:
        lease.release()
        raise
    return lease


def clear(job: Job) -> None:
    """Removes the files of an encoding that is finished."""
    shutil.rmtree(job.folder, ignore_errors=True)


def finish(job: Job) -> Manifest:
    """Writes the shards from the files of all sequences, then the manifest.

    Raises:
        TrainError: when a file has been damaged meanwhile.
        OSError: when the folder cannot be written.
    """
    spool_folder, shard_folder = job.folder / "spool", job.folder / "shards"
    for folder in (spool_folder, shard_folder):  # of a process that was ended here
        shutil.rmtree(folder, ignore_errors=True)
    shape = ChunkFormat(job.rate, job.layout.numbers)
    with Spool(spool_folder, "") as spool:
        for recording in job.recordings:
            numbers = read_sequence(job.file(recording), job.key(recording), job.layout.rows)
            if numbers is None:
                raise TrainError(f"{job.file(recording)}: damaged since it was written; run the same command again")
            offset, count, digest = spool.write([numbers])
            source = _source(job, recording.row, count, digest)
            tail = (job.labels.number(recording.row),) if job.labels else ()
            spool.commit(Piece(recording.row, source, offset, count, digest, [], tail=tail))
        made = Shuffler(spool, shape, job.hop, max(1, SHARD_BYTES // shape.stride), 0).write(shard_folder)
        found = {row: piece.source for row, piece in spool.pieces.items()}
    manifest = _manifest(job, found, made)
    _publish(job, manifest, shard_folder)
    return manifest


def _source(job: Job, row: int, count: int, digest: str) -> Source:
    """The row of a recording in the manifest, of so many numbers."""
    windows = len(chunk_starts(count, job.layout.values, job.hop))
    source = replace(job.manifest.sources[row], chunks=windows, silent_chunks=0, left_out=0, audio=digest)
    if source.members is None:
        return source
    rows, stride = job.layout.rows, job.layout.stride
    members = [[one, first * rows // stride, -(-length * rows // stride)] for one, first, length in source.members]
    return replace(source, members=members)


def _manifest(job: Job, found: dict[int, Source], made: list[PartShard]) -> Manifest:
    splits = {name: [one.shard for one in made if one.split == name] for name in job.manifest.splits}
    levels = {
        name: replace(level, chunks=sum(shard.chunks for shard in splits[name]), silent_chunks=0, left_out=0)
        for name, level in job.manifest.levels.items()
    }
    sources = [found.get(row, source) for row, source in enumerate(job.manifest.sources)]
    return Manifest(
        rate=job.rate,
        samples=job.layout.numbers,
        hop=job.hop,
        level=job.manifest.level,
        settings=job.settings,
        splits=splits,
        levels=levels,
        sources=sources,
    )


def _publish(job: Job, manifest: Manifest, folder: Path) -> None:
    """Moves the shards to their places and writes the manifest: from then on the data set is there."""
    names = {shard.file for shards in manifest.splits.values() for shard in shards}
    for path in job.out.glob("*.tar"):  # of an encoding in other windows that was ended here
        if path.name not in names and _is_shard(job, path.name):
            remove_file(path)
    for name in sorted(names):
        sync(folder / name)
        (folder / name).replace(job.out / name)
    sync(job.out)
    audiovae.save(job.model, job.out / AUTOENCODER)
    manifest.save(job.out)
    remove_leftovers(job.out)
