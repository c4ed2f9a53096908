"""The decoded recordings of a part, one behind the other in a file, and a journal of what is sound.

A journal entry is written when what it describes is complete, and carries its hash: whatever a killed process
or machine leaves, the next attempt takes over exactly what was finished.
"""

import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import xxhash

from shards.files.hashing import xxh3_of
from shards.manifest import Shard, Source

_BLOCK = 1 << 20  # bytes copied at a time


@dataclass(frozen=True)
class Piece:
    """One recording of a part, int16 samples in a spool, interleaved; none when it was skipped."""

    row: int  # in the manifest
    source: Source
    offset: int  # bytes
    samples: int  # of each channel
    xxh3: str
    left_out: list[int]  # silent chunks
    begin: int = 0  # its first sample in the recording
    hop: int = 0  # samples from one chunk to the next; 0 is that of the data set
    tail: tuple[int, ...] = ()  # int16 values at the end of each of its chunks, in place of samples


@dataclass(frozen=True)
class PartShard:
    """A shard that a part has made."""

    split: str
    shard: Shard


class Spool:
    """What one attempt at a part has done so far, in its own folder."""

    def __init__(self, folder: Path, key: str, channels: int = 1):
        """``key`` is that of the part with its splits, which decide what is in the shards."""
        self._key, self.channels = key, channels
        folder.mkdir(parents=True)
        self.folder = folder
        self.pieces: dict[int, Piece] = {}
        self.shards: dict[str, PartShard] = {}
        self._end = 0
        self._audio = open(folder / "audio.s16", "w+b")  # noqa: SIM115 - closed by __exit__
        self._journal = open(folder / "journal", "w")  # noqa: SIM115

    def __enter__(self) -> "Spool":
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._audio.close()
        finally:
            self._journal.close()

    @property
    def frame(self) -> int:
        """Bytes of one sample of all channels."""
        return 2 * self.channels

    @property
    def path(self) -> Path:
        """The file of samples."""
        return self.folder / "audio.s16"

    def write(self, blocks: Iterable) -> tuple[int, int, str]:
        """Write blocks of int16; what was written before but not committed is overwritten.

        Returns their offset in bytes, their number of samples and their hash.
        """
        self._audio.seek(self._end)
        digest, written = xxhash.xxh3_128(), 0
        for block in blocks:
            digest.update(block)
            written += self._audio.write(block)
        self._audio.flush()
        return self._end, written // self.frame, digest.hexdigest()

    def read(self, offset: int, samples: int) -> np.ndarray:
        """Samples that were written, interleaved, int16 [samples * channels]."""
        return np.frombuffer(os.pread(self._audio.fileno(), self.frame * samples, offset), "<i2")

    def digest(self, offset: int, samples: int) -> str:
        """The hash of samples that were written, as ``write`` returns it."""
        digest = xxhash.xxh3_128()
        for begin in range(0, samples, _BLOCK):
            digest.update(self.read(offset + self.frame * begin, min(_BLOCK, samples - begin)).data)
        return digest.hexdigest()

    def commit(self, piece: Piece) -> None:
        """Note that a recording is complete."""
        self.pieces[piece.row] = piece
        self._end = max(self._end, piece.offset + self.frame * piece.samples)
        self._note({"piece": vars(piece) | {"source": vars(piece.source)}})

    def commit_shard(self, made: PartShard) -> None:
        """Note that a shard is complete."""
        self.shards[made.shard.file] = made
        self._note({"shard": asdict(made), "key": self._key})

    def take_over(self, left: "Leftover", splits: Mapping[int, str | None], shards: Path) -> None:
        """Copy what earlier attempts have finished, as far as it is sound, and remove what they left.

        ``splits`` are those of the part's rows. Shards with other splits are not taken over.

        Raises OSError when there is no room; then what they left stays, and this attempt leaves nothing.
        """
        try:
            for row, split in splits.items():
                any(self._copy(folder, piece, split) for folder, piece in left.pieces.get(row, []))
        except OSError:
            shutil.rmtree(self.folder, ignore_errors=True)
            raise
        for key, made in left.shards.values():
            if key == self._key and _is_sound(shards / made.shard.file, made.shard):
                self.commit_shard(made)
        for folder in left.folders:
            shutil.rmtree(folder, ignore_errors=True)

    def _copy(self, folder: Path, piece: Piece, split: str | None) -> bool:
        """Whether a recording was there and as it was written."""
        offset = self._end
        if piece.samples:
            try:
                offset, samples, xxh3 = self.write(self._blocks(folder, piece))
            except FileNotFoundError:
                return False
            if (samples, xxh3) != (piece.samples, piece.xxh3):
                return False
        source = piece.source if piece.source.split is None else replace(piece.source, split=split)
        self.commit(replace(piece, offset=offset, source=source))
        return True

    def _blocks(self, folder: Path, piece: Piece) -> Iterator[bytes]:
        with open(folder / "audio.s16", "rb") as file:
            file.seek(piece.offset)
            left = self.frame * piece.samples
            while left and (block := file.read(min(left, _BLOCK))):
                left -= len(block)
                yield block

    def _note(self, entry: dict) -> None:
        self._journal.write(json.dumps(entry) + "\n")
        self._journal.flush()


class Leftover:
    """What earlier attempts at a part have noted."""

    def __init__(self, folders: list[Path]):
        self.folders = folders
        self.pieces: dict[int, list[tuple[Path, Piece]]] = {}
        self.shards: dict[str, tuple[str, PartShard]] = {}  # with the key of the part
        for folder in folders:
            for entry in _entries(folder / "journal"):
                if isinstance(entry, Piece):
                    self.pieces.setdefault(entry.row, []).append((folder, entry))
                else:
                    self.shards[entry[1].shard.file] = entry


def _entries(path: Path) -> Iterator[Piece | tuple[str, PartShard]]:
    """The entries of a journal up to the first that is torn."""
    try:
        lines = path.read_bytes().split(b"\n")
    except FileNotFoundError:
        return
    for text in lines[:-1]:
        try:
            entry = json.loads(text)
            if "piece" in entry:
                yield Piece(**entry["piece"] | {"source": Source(**entry["piece"]["source"])})
            else:
                yield entry["key"], PartShard(entry["shard"]["split"], Shard(**entry["shard"]["shard"]))
        except (ValueError, TypeError, KeyError):
            return


def _is_sound(path: Path, shard: Shard) -> bool:
    """Whether a shard is whole: it may have been on its way to the disk when the machine stopped."""
    try:
        return xxh3_of(path) == shard.xxh3
    except FileNotFoundError:
        return False
