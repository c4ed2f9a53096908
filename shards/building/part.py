"""One unit of a build: decode its recordings into a spool, then write their chunks, shuffled, as shards.

Runs in a worker process. An interrupted part continues after its last finished recording or shard.
"""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import xxhash

from shards.audio.errors import DecodingError, reason
from shards.audio.levels import SILENCE
from shards.audio.recording import Recording
from shards.building.build_folder import BuildFolder
from shards.building.joining import join
from shards.building.plan import Part, Settings
from shards.building.probe import Candidate
from shards.building.shuffle import Shuffler
from shards.building.spool import Leftover, PartShard, Piece, Spool
from shards.copies.mono import mono_reader
from shards.copies.prints import SUFFIX, make_print, to_bytes
from shards.errors import DataError
from shards.files import write_atomically
from shards.files.hashing import xxh3_of
from shards.manifest import Listed, Shard, Source
from shards.splits.tail import spans
from shards.tiling import chunk_starts, left_out

ALIKE = 64  # samples compared first, to see whether chunks repeat


@dataclass
class PartResult:
    """What a part has made: its shards, the rows of its recordings, and their acoustic fingerprints."""

    shards: list[PartShard]
    sources: dict[int, Source]
    prints: Listed | None  # None without a recording

    def save(self, path: Path) -> None:
        """Write it, whole or not at all."""
        write_atomically(path, json.dumps(vars(self), default=vars))

    @classmethod
    def load(cls, path: Path) -> "PartResult":
        """Read what ``save`` wrote. Raises DataError when it is damaged."""
        try:
            content = json.loads(path.read_text())
            return cls(
                shards=[PartShard(row["split"], Shard(**row["shard"])) for row in content["shards"]],
                sources={int(row): Source(**source) for row, source in content["sources"].items()},
                prints=Listed(**content["prints"]) if content["prints"] else None,
            )
        except (ValueError, TypeError, KeyError, AttributeError):
            raise DataError(f"{path} is damaged: delete it and run the build again") from None


def build_part(
    audio_dir: Path,
    build_folder: BuildFolder,
    settings: Settings,
    part: Part,
    on_progress: Callable[[float], None],
) -> PartResult:
    """Make the shards of one part in ``build_folder.shards``; ``on_progress`` gets the seconds that are done.

    Raises DataError when a recording is no longer what was planned, OSError when nothing can be written.
    """
    left = Leftover(build_folder.work(part))
    folder = build_folder.new_work(part)
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
    with Spool(folder, part.key, settings.channels) as spool:
        splits = {row: candidate.split for row, candidate in part.sources.items()}
        spool.take_over(left, splits, build_folder.shards)
        intake = _Intake(audio_dir, settings, spool)
        for rows in _by_path(part.sources):
            progress = _Progress(on_progress)
            if not rows.keys() <= spool.pieces.keys():
                for piece in intake.take(rows, progress):
                    spool.commit(piece)
            progress.rest_of(math.fsum(candidate.seconds for candidate in rows.values()))
        for split, row in part.joined.items():
            spool.commit(join(spool, settings, f"(joined {part.index:05d} {split})", row, split))
        shuffler = Shuffler(spool, settings.shape, settings.hop, settings.chunks_per_shard, part.index)
        shards = shuffler.write(build_folder.shards)
        sources = {row: piece.source for row, piece in spool.pieces.items()}
        return PartResult(shards, sources, _write_prints(build_folder.shards, spool, settings.rate, part.index))


def _by_path(sources: Mapping[int, Candidate]) -> list[dict[int, Candidate]]:
    """The rows of each recording; one that is divided has several."""
    found: dict[str, dict[int, Candidate]] = {}
    for row, candidate in sources.items():
        found.setdefault(candidate.path, {})[row] = candidate
    return list(found.values())


def _reader(spool: Spool, piece: Piece) -> Callable[[int, int], np.ndarray]:
    """Reads a recording as mono."""

    def read(begin: int, count: int) -> np.ndarray:
        return spool.read(piece.offset + spool.frame * begin, count)

    return mono_reader(read, piece.samples, spool.channels)


def _write_prints(folder: Path, spool: Spool, rate: int, index: int) -> Listed | None:
    """Make the acoustic fingerprints of all recordings in a spool but silent ones."""
    pieces = [
        piece
        for _, piece in sorted(spool.pieces.items())
        if piece.samples and not piece.source.silent and piece.source.members is None
    ]
    if not pieces:
        return None
    content = to_bytes([make_print(one.row, _reader(spool, one), one.samples, rate) for one in pieces])
    path = folder / f"prints-{index:05d}{SUFFIX}"
    write_atomically(path, content)
    return Listed(path.name, len(content), xxhash.xxh3_128_hexdigest(content))


@dataclass(frozen=True)
class _Heard:
    """A recording that was decoded, and the hashes of its file and of its samples."""

    recording: Recording
    content: str
    audio: str


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
        self._decoder = settings.decoder(spool.folder)

    def take(self, rows: dict[int, Candidate], on_progress: Callable[[float], None]) -> list[Piece]:
        """Write one recording, or find out why it gives nothing; the rows are those of its parts."""
        candidate = next(iter(rows.values()))
        self._check_unchanged(candidate)
        file = self._audio_dir / candidate.path
        try:
            content = _hash_of(file)
            with self._decoder.read(file, on_progress) as recording:
                offset, samples, audio = self._spool.write(recording.audio())
        except DecodingError as error:
            self._check_unchanged(candidate)  # a file that is being replaced is no bad recording
            return [_nothing(row, one, str(error)) for row, one in rows.items()]
        heard = _Heard(recording, content, audio)
        if not candidate.divided:
            ((row, one),) = rows.items()
            return [self._piece(row, one, heard, offset, (0, samples), audio)]
        parts = spans(samples, self._settings.samples, self._settings.shares)
        return [self._part(row, one, heard, offset, parts) for row, one in rows.items()]

    def _part(
        self, row: int, candidate: Candidate, heard: "_Heard", offset: int, parts: dict[str, tuple[int, int]]
    ) -> Piece:
        """The part of a divided recording that belongs to one split."""
        span = parts.get(str(candidate.split))
        if span is None:
            return _nothing(row, candidate, "held out: nothing, since the recording is too short to divide")
        digest = self._spool.digest(offset + self._spool.frame * span[0], span[1] - span[0])
        piece = self._piece(row, candidate, heard, offset, span, digest)
        if len(parts) == 1 or piece.source.split is None:
            return piece
        begin, end = (sample / self._settings.rate for sample in span)
        what = "for training" if candidate.split == "train" else "held out"
        note = "; ".join(filter(None, (f"divided: {begin:.2f} to {end:.2f} s are {what}", piece.source.note)))
        return replace(piece, source=replace(piece.source, note=note, span=list(span)))

    def _piece(
        self, row: int, candidate: Candidate, heard: "_Heard", offset: int, span: tuple[int, int], digest: str
    ) -> Piece:
        begin, samples = span[0], span[1] - span[0]
        first = offset + self._spool.frame * begin
        silent, repeated = self._look_over(first, samples)
        without = left_out(silent, self._settings.max_silence)
        if len(without) == len(silent):
            return _nothing(row, candidate, "silent: left out by --max_silence")
        source = _kept(candidate, heard, samples / self._settings.rate, silent, without)
        if self._settings.join_short and samples < self._settings.samples:
            without = np.zeros(1, np.int64)
            source = replace(source, chunks=0, silent_chunks=0)
        if repeated:
            note = f"repeating: {repeated} chunks have the samples of the one before"
            source = replace(source, note="; ".join(filter(None, (source.note, note))))
        return Piece(row, source, first, samples, digest, without.tolist(), begin)

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

    def _look_over(self, offset: int, samples: int) -> tuple[np.ndarray, int]:
        """Which chunks of a recording in the spool never rise above -80 dBFS, and how many others repeat.

        No channel of a silent chunk does. Returns bool [chunks], and the number of audible chunks with the samples of
        the one before.
        """
        length, hop, limit = self._settings.samples, self._settings.hop, SILENCE * 32768
        starts, channels, frame = chunk_starts(samples, length, hop), self._spool.channels, self._spool.frame
        found, repeated = [], 0
        at_once = max(1, (1 << 20) // hop)  # some 2 MB a channel
        for begin in range(0, len(starts), at_once):
            here = starts[begin : begin + at_once]
            first, last = int(here[0]), int(here[-1])
            audio = self._spool.read(offset + frame * first, min(last + length, samples) - first)
            windows = np.lib.stride_tricks.sliding_window_view(audio, min(length, samples) * channels)[::channels]
            # All but the recording's last lie ``hop`` apart: by slices, as indices would copy the chunks.
            for group in (windows[: last - first : hop], windows[last - first :]):
                found.append((group.max(axis=1) < limit) & (group.min(axis=1) > -limit))
            chunks = windows[: last - first : hop]
            alike = np.flatnonzero((chunks[1:, :ALIKE] == chunks[:-1, :ALIKE]).all(axis=1) & ~found[-2][1:])
            repeated += sum(bool((chunks[i] == chunks[i + 1]).all()) for i in alike.tolist())
        return np.concatenate(found), repeated


def _hash_of(file: Path) -> str:
    """xxh3-128 of a recording's file, which is then in the page cache for the decoder. Raises DecodingError."""
    try:
        return xxh3_of(file)
    except OSError as error:
        raise DecodingError(reason(error)) from None


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
        size=candidate.size,
        modified_ns=candidate.modified,
        group=candidate.group,
    )


def _kept(candidate: Candidate, heard: _Heard, seconds: float, silent: np.ndarray, without: np.ndarray) -> Source:
    recording = heard.recording
    return Source(
        path=candidate.path,
        fingerprint=candidate.fingerprint,
        split=candidate.split,
        chunks=len(silent) - len(without),
        silent_chunks=int(silent.sum()) - len(without),
        left_out=len(without),
        duration_s=round(seconds, 6),
        rate=recording.rate,
        channels=recording.channels,
        gain_db=round(20 * math.log10(recording.gain), 4),
        peak=round(recording.peak, 6),
        rms=round(recording.rms, 6),
        silent=recording.silent,
        note=recording.note,
        size=candidate.size,
        modified_ns=candidate.modified,
        content=heard.content,
        audio=heard.audio,
        group=candidate.group,
    )
