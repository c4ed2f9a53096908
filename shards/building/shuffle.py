"""The chunks of a part, shuffled over its shards and inside each."""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import xxhash

from shards.building.spool import PartShard, Piece, Spool
from shards.chunk import END_OF_TAR, HEADERS, IDENTITY_DIGITS, ChunkFormat
from shards.files import canonical_json
from shards.manifest import Shard
from shards.splitmix import keyed_order, mix
from shards.tiling import chunk_starts

BATCH = 32  # records made at a time, 1.4 MB: they stay in the processor's cache until they are written


@dataclass(frozen=True)
class _Chunks:
    """Chunks of a spool, one row each, int64 [n]."""

    source: np.ndarray
    start: np.ndarray  # samples into the recording
    offset: np.ndarray  # bytes into the spool
    length: np.ndarray  # bytes that are there; zeros follow

    def take(self, order: np.ndarray | slice) -> "_Chunks":
        return _Chunks(self.source[order], self.start[order], self.offset[order], self.length[order])


class Shuffler:
    """Makes the shards of one part."""

    def __init__(self, spool: Spool, shape: ChunkFormat, hop: int, chunks_per_shard: int, part: int):
        self._spool, self._shape, self._hop, self._part = spool, shape, hop, part
        self._chunks_per_shard = chunks_per_shard

    def write(self, target: Path) -> list[PartShard]:
        """Write all shards into a folder but those that the spool knows to be there."""
        target.mkdir(exist_ok=True)
        made = []
        splits = {piece.source.split for piece in self._spool.pieces.values() if piece.source.split is not None}
        for split in sorted(splits):
            pieces = [piece for _, piece in sorted(self._spool.pieces.items()) if piece.source.split == split]
            chunks = self._chunks(pieces)
            count = max(1, round(len(chunks.start) / self._chunks_per_shard))
            order = keyed_order(len(chunks.start), mix(self._part))
            for k, rows in enumerate(np.array_split(order, count)):
                name = f"{split}-{self._part:05d}-{k:03d}.tar"
                if name not in self._spool.shards:
                    identity = self._identity(name, count, pieces)
                    shard = self._write(target / name, chunks.take(rows), identity)
                    self._spool.commit_shard(PartShard(split, shard))
                made.append(self._spool.shards[name])
        return made

    def _identity(self, name: str, count: int, pieces: list[Piece]) -> str:
        """Hash of all that decides a shard's bytes: its place, the settings, and the samples of its recordings."""
        audio: list[list] = [[one.row, one.begin, one.samples, one.hop, one.left_out, one.xxh3] for one in pieces]
        for about, one in zip(audio, pieces, strict=True):
            about += [one.tail] if one.tail else []  # shards without tails keep their identity
        content = [name, count, self._shape.rate, self._shape.samples, self._hop, audio]
        content += [self._shape.channels] if self._shape.channels > 1 else []  # mono shards keep theirs, too
        return xxhash.xxh3_128_hexdigest(canonical_json(content))[:IDENTITY_DIGITS]

    def _chunks(self, pieces: list[Piece]) -> _Chunks:
        columns = [self._tile(piece) for piece in pieces]
        return _Chunks(*(np.concatenate(column) for column in zip(*columns, strict=True)))

    def _tile(self, piece: Piece) -> tuple[np.ndarray, ...]:
        window, frame = self._shape.samples - len(piece.tail), self._shape.frame
        start = np.delete(chunk_starts(piece.samples, window, piece.hop or self._hop), piece.left_out)
        source = np.full(len(start), piece.row)
        length = np.minimum(window, piece.samples - start)
        return source, piece.begin + start, piece.offset + frame * start, frame * length

    def _write(self, path: Path, chunks: _Chunks, identity: str) -> Shard:
        shape, count = self._shape, len(chunks.start)
        rows = np.empty((min(BATCH, count), shape.stride), np.uint8)
        rows[:, shape.hashed :] = shape.trailer
        checksum = xxhash.xxh3_128()
        temporary = self._spool.folder / path.name
        with open(self._spool.path, "rb") as spool, open(temporary, "wb") as file:
            for begin in range(0, count, BATCH):
                here = chunks.take(slice(begin, begin + BATCH))
                records = rows[: len(here.start)]
                records[:, :HEADERS] = shape.headers(here.source, here.start, identity)
                audio = records[:, HEADERS : shape.hashed]
                places = zip(here.source.tolist(), here.offset.tolist(), here.length.tolist(), strict=True)
                for row, (source, offset, length) in zip(audio, places, strict=True):
                    if os.preadv(spool.fileno(), [row[:length]], offset) != length:
                        raise OSError(None, "became shorter while it was read", str(self._spool.path))
                    row[length:] = 0
                    if tail := self._spool.pieces[source].tail:
                        row[-2 * len(tail) :] = np.array(tail, "<i2").view(np.uint8)
                shape.stored_checksums(records)[:] = shape.checksums(records)
                checksum.update(records.data)
                file.write(records.data)
            checksum.update(END_OF_TAR)
            file.write(END_OF_TAR)
        temporary.replace(path)
        return Shard.of(path, count, shape, checksum.hexdigest(), identity)
