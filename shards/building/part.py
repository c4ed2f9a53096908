"""One unit of a build: decode its recordings, scatter their chunks over open shards, close the shards.

Runs in a worker process. It leaves shards in the data folder and, last, a result file: a part without one
is done again after an interruption.
"""

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import xxhash

from shards.building.plan import Candidate, Part, Settings
from shards.building.recording import SILENCE, Recording, RecordingError, read_recording
from shards.building.tiling import chunk_starts
from shards.chunk import END_OF_TAR, ChunkFormat
from shards.files import sync, write_atomically
from shards.manifest import Shard, Source
from shards.splitmix import keyed_order, mix, splitmix64

SCRATCH = ".build"
BATCH = 256  # chunks made or copied at a time, 11 MB


@dataclass
class Loudness:
    """Sums over the chunks of a split, in units of 16-bit samples: exact, so they add up in any order."""

    chunks: int = 0
    squares: int = 0
    peak: int = 0
    silent: int = 0

    def add(self, audio: np.ndarray) -> None:
        """Count chunks, int16 [n, samples]."""
        peaks = np.maximum(audio.max(axis=1).astype(int), -audio.min(axis=1).astype(int))
        self.chunks += len(audio)
        self.squares += int(np.einsum("ij,ij->", audio, audio, dtype=np.float64))
        self.peak = max(self.peak, int(peaks.max()))
        self.silent += int((peaks < SILENCE * 32768).sum())

    def merge(self, other: "Loudness") -> None:
        """Count another part's chunks."""
        self.chunks += other.chunks
        self.squares += other.squares
        self.peak = max(self.peak, other.peak)
        self.silent += other.silent


@dataclass
class PartResult:
    """What a part made."""

    shards: list[tuple[str, Shard]]  # split, shard
    sources: dict[int, Source]
    loudness: dict[str, Loudness]

    def save(self, path: Path) -> None:
        """Write it, whole or not at all."""
        write_atomically(path, json.dumps(asdict(self)))

    @classmethod
    def load(cls, path: Path) -> "PartResult":
        """Read what ``save`` wrote."""
        content = json.loads(path.read_text())
        return cls(
            shards=[(split, Shard(**shard)) for split, shard in content["shards"]],
            sources={int(row): Source(**source) for row, source in content["sources"].items()},
            loudness={split: Loudness(**sums) for split, sums in content["loudness"].items()},
        )


def result_path(out: Path, index: int) -> Path:
    """Where a part leaves its result."""
    return out / SCRATCH / f"part-{index:05d}.json"


def build_part(audio_dir: Path, out: Path, settings: Settings, part: Part, progress: Callable[[float], None]) -> None:
    """Make the shards of one part; ``progress`` is told the seconds of every recording done."""
    shape = ChunkFormat(settings.rate, settings.samples)
    scratch = out / SCRATCH / f"part-{part.index:05d}"
    shutil.rmtree(scratch, ignore_errors=True)  # what an interrupted attempt left
    scratch.mkdir()
    shards = {split: _OpenShards(scratch, shape, split, count) for split, count in part.shards.items()}
    result = PartResult([], {}, {})
    for row, candidate in part.sources.items():
        try:
            recording = read_recording(audio_dir / candidate.path, settings.rate, settings.level)
        except RecordingError as error:
            result.sources[row] = skipped(candidate, str(error))
        else:
            starts = chunk_starts(len(recording.audio), settings.samples, settings.hop)
            loudness = result.loudness.setdefault(candidate.split, Loudness())
            shards[candidate.split].add(recording.audio, row, starts, loudness)
            result.sources[row] = _kept(candidate, recording, len(starts))
        progress(candidate.seconds)
    for split, opened in shards.items():
        result.shards += [(split, shard) for shard in opened.close(out, part.index)]
    sync(out)
    result.save(result_path(out, part.index))
    shutil.rmtree(scratch)


def skipped(candidate: Candidate, why: str) -> Source:
    """The manifest's row of a file that gives no chunk."""
    return Source(candidate.path, candidate.fingerprint, None, 0, 0.0, 0, 0, 0.0, 0.0, 0.0, False, why)


def _kept(candidate: Candidate, recording: Recording, chunks: int) -> Source:
    return Source(
        path=candidate.path,
        fingerprint=candidate.fingerprint,
        split=candidate.split,
        chunks=chunks,
        duration_s=round(recording.duration_s, 6),
        rate=recording.rate,
        channels=recording.channels,
        gain_db=round(recording.gain_db, 4),
        peak=round(recording.peak, 6),
        rms=round(recording.rms, 6),
        silent=recording.silent,
        note=recording.note,
    )


class _OpenShards:
    """The shards of one split while chunks are scattered over them by hash.

    Rows wait in files, in the order they come, so that memory does not grow with the shards.
    """

    def __init__(self, scratch: Path, shape: ChunkFormat, split: str, count: int):
        self.shape, self.split, self.count = shape, split, count
        self.scratch = scratch
        self.rows = [scratch / f"{split}-{k:03d}.rows" for k in range(count)]

    def add(self, audio: np.ndarray, source: int, starts: np.ndarray, loudness: Loudness) -> None:
        """Cut a recording, int16 [samples], and append each chunk to the shard its hash names."""
        padded = np.pad(audio, (0, max(self.shape.samples - len(audio), 0)))
        windows = np.lib.stride_tricks.sliding_window_view(padded, self.shape.samples)
        target = splitmix64(starts.astype(np.uint64) ^ np.uint64(mix(source))) % np.uint64(self.count)
        for begin in range(0, len(starts), BATCH):
            here = starts[begin : begin + BATCH]
            chunks = windows[here]
            loudness.add(chunks)
            records = self.shape.records(chunks, np.full(len(here), source), here)
            for k in np.unique(target[begin : begin + BATCH]):
                with open(self.rows[k], "ab") as file:
                    file.write(records[target[begin : begin + BATCH] == k].data)

    def close(self, out: Path, part: int) -> list[Shard]:
        """Shuffle the rows of each shard and put it in its place under its final name."""
        return [self._close(out, part, k) for k, rows in enumerate(self.rows) if rows.exists()]

    def _close(self, out: Path, part: int, k: int) -> Shard:
        name = f"{self.split}-{part:05d}-{k:03d}.tar"
        rows = np.memmap(self.rows[k], np.uint8, "r").reshape(-1, self.shape.stride)
        order = keyed_order(len(rows), mix(part, k))
        checksum = xxhash.xxh3_128()
        with open(self.scratch / name, "wb") as file:
            for begin in range(0, len(rows), BATCH):
                piece = rows[order[begin : begin + BATCH]].data
                checksum.update(piece)
                file.write(piece)
            checksum.update(END_OF_TAR)
            file.write(END_OF_TAR)
            file.flush()
            os.fsync(file.fileno())
        (self.scratch / name).replace(out / name)
        self.rows[k].unlink()
        return Shard(name, len(rows), self.shape.shard_bytes(len(rows)), checksum.hexdigest())
