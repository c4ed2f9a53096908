"""One unit of a build: decode its recordings into a spool, then write their chunks, shuffled, as shards.

Runs in a worker process. An interrupted part continues after its last finished recording or shard.
"""

import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from shards.audio.errors import DecodingError
from shards.audio.levels import SILENCE
from shards.audio.recording import Decoder, Recording
from shards.building.build_folder import BuildFolder
from shards.building.plan import Part, Settings
from shards.building.probe import Candidate
from shards.building.shuffle import Shuffler
from shards.building.spool import Leftover, PartShard, Piece, Spool
from shards.building.tiling import chunk_starts, left_out
from shards.chunk import ChunkFormat
from shards.errors import DataError
from shards.files import write_atomically
from shards.manifest import Shard, Source


@dataclass
class PartResult:
    """What a part has made: its shards and the rows of its recordings."""

    shards: list[PartShard]
    sources: dict[int, Source]

    def save(self, path: Path) -> None:
        """Write it, whole or not at all."""
        write_atomically(path, json.dumps(asdict(self)))

    @classmethod
    def load(cls, path: Path) -> "PartResult":
        """Read what ``save`` wrote. Raises DataError when it is damaged."""
        try:
            content = json.loads(path.read_text())
            return cls(
                shards=[PartShard(row["split"], Shard(**row["shard"])) for row in content["shards"]],
                sources={int(row): Source(**source) for row, source in content["sources"].items()},
            )
        except (ValueError, TypeError, KeyError, AttributeError):
            raise DataError(f"{path} is damaged: delete it and run the build again") from None


def build_part(
    audio_dir: Path,
    build_folder: BuildFolder,
    plan_key: str,
    settings: Settings,
    part: Part,
    on_progress: Callable[[float], None],
) -> PartResult:
    """Make the shards of one part in ``build_folder.shards``; ``on_progress`` gets the seconds that are done.

    Raises DataError when a recording is no longer what was planned, OSError when nothing can be written.
    """
    left = Leftover(build_folder.work(plan_key, part))
    folder = build_folder.new_work(plan_key, part)
    try:
        return _build(audio_dir, build_folder, folder, left, settings, part, on_progress)
    except FileNotFoundError:
        if folder.exists():
            raise
        raise DataError(
            f"another build has taken over part {part.index} of {build_folder.out}, as this one seemed to be dead: "
            "let it go on, or end both and run one"
        ) from None


def _build(
    audio_dir: Path,
    build_folder: BuildFolder,
    folder: Path,
    left: Leftover,
    settings: Settings,
    part: Part,
    on_progress: Callable[[float], None],
) -> PartResult:
    with Spool(folder) as spool:
        spool.take_over(left, part.sources, build_folder.shards)
        intake = _Intake(audio_dir, settings, spool)
        for row, candidate in part.sources.items():
            progress = _Progress(on_progress)
            if row not in spool.pieces:
                spool.commit(intake.take(row, candidate, progress))
            progress.rest_of(candidate.seconds)
        shape = ChunkFormat(settings.rate, settings.samples)
        shuffler = Shuffler(spool, shape, settings.hop, settings.chunks_per_shard, part.index)
        shards = shuffler.write(build_folder.shards)
        return PartResult(shards, {row: piece.source for row, piece in spool.pieces.items()})


class _Progress:
    """Seconds of a recording that were reported: they add up to what the plan expects of it."""

    def __init__(self, on_progress: Callable[[float], None]):
        self._on_progress, self._seconds = on_progress, 0.0

    def __call__(self, seconds: float) -> None:
        self._on_progress(seconds)
        self._seconds += seconds

    def rest_of(self, seconds: float) -> None:
        self._on_progress(seconds - self._seconds)


class _Intake:
    """Decodes recordings into a spool."""

    def __init__(self, audio_dir: Path, settings: Settings, spool: Spool):
        self._audio_dir, self._settings, self._spool = audio_dir, settings, spool
        self._decoder = Decoder(settings.rate, settings.level, spool.folder)

    def take(self, row: int, candidate: Candidate, on_progress: Callable[[float], None]) -> Piece:
        """Write one recording, or find out why it gives nothing."""
        self._check_unchanged(candidate)
        try:
            with self._decoder.read(self._audio_dir / candidate.path, on_progress) as recording:
                offset, samples, xxh3 = self._spool.write(recording.audio())
        except DecodingError as error:
            self._check_unchanged(candidate)  # a file that is being replaced is no bad recording
            return _nothing(row, candidate, str(error))
        silent = self._silent(offset, samples)
        without = left_out(silent, self._settings.max_silence)
        if len(without) == len(silent):
            return _nothing(row, candidate, "silent: left out by --max_silence")
        return Piece(row, _kept(candidate, recording, silent, without), offset, samples, xxh3, without.tolist())

    def _check_unchanged(self, candidate: Candidate) -> None:
        try:
            if candidate.is_unchanged(self._audio_dir):
                return
            what = "has changed"
        except OSError as error:
            what = f"cannot be read any more ({error.strerror})"
        raise DataError(
            f"{self._audio_dir / candidate.path} {what} since the build was planned: put it back and run the same "
            "command again, or delete the folder .build in the data folder to plan anew"
        )

    def _silent(self, offset: int, samples: int) -> np.ndarray:
        """Which chunks of a recording in the spool never rise above -80 dBFS: bool [chunks]."""
        length, hop, limit = self._settings.samples, self._settings.hop, SILENCE * 32768
        starts = chunk_starts(samples, length, hop)
        found = []
        at_once = max(1, (1 << 20) // hop)  # some 2 MB
        for begin in range(0, len(starts), at_once):
            here = starts[begin : begin + at_once]
            first, last = int(here[0]), int(here[-1])
            audio = self._spool.read(offset + 2 * first, min(last + length, samples) - first)
            windows = np.lib.stride_tricks.sliding_window_view(audio, min(length, samples))
            # All but the recording's last lie ``hop`` apart: by slices, as indices would copy the chunks.
            for group in (windows[: last - first : hop], windows[last - first :]):
                found.append((group.max(axis=1) < limit) & (group.min(axis=1) > -limit))
        return np.concatenate(found)


def _nothing(row: int, candidate: Candidate, why: str) -> Piece:
    return Piece(row, skipped(candidate, why), 0, 0, "", [])


def skipped(candidate: Candidate, why: str) -> Source:
    """The manifest's row of a file that gives no chunk."""
    return Source(
        path=candidate.path,
        fingerprint=candidate.fingerprint,
        split=None,
        chunks=0,
        silent_chunks=0,
        left_out=0,
        duration_s=0.0,
        rate=0,
        channels=0,
        gain_db=0.0,
        peak=0.0,
        rms=0.0,
        silent=False,
        note=why,
    )


def _kept(candidate: Candidate, recording: Recording, silent: np.ndarray, without: np.ndarray) -> Source:
    return Source(
        path=candidate.path,
        fingerprint=candidate.fingerprint,
        split=candidate.split,
        chunks=len(silent) - len(without),
        silent_chunks=int(silent.sum()) - len(without),
        left_out=len(without),
        duration_s=round(recording.duration_s, 6),
        rate=recording.rate,
        channels=recording.channels,
        gain_db=round(20 * math.log10(recording.gain), 4),
        peak=round(recording.peak, 6),
        rms=round(recording.rms, 6),
        silent=recording.silent,
        note=recording.note,
    )
