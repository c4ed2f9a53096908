"""Short recordings that share chunks, so that little of the data is padding."""

import numpy as np

from shards.building.plan import Settings
from shards.building.spool import Piece, Spool
from shards.manifest import Source

GAP = 20  # a chunk is so many times as long as the silence between two recordings


def pack(lengths: list[int], chunk: int, gap: int) -> list[int]:
    """Where recordings begin that are laid one after the other, so that none crosses the border of a chunk.

    All counts in samples; no recording is longer than a chunk.
    """
    begins, end = [], 0
    for length in lengths:
        left = -end % chunk  # of the last chunk
        if left < gap + length:
            end += left
        elif left:
            end += gap
        begins.append(end)
        end += length
    return begins


def join(spool: Spool, settings: Settings, name: str, row: int, split: str) -> Piece:
    """Lay the short recordings of a split one after the other into the spool; ``row`` is that of the result."""
    short = [
        piece
        for _, piece in sorted(spool.pieces.items())
        if piece.source.split == split and piece.samples and not piece.source.chunks and piece.source.members is None
    ]
    chunk = settings.samples
    begins = pack([piece.samples for piece in short], chunk, chunk // GAP)
    end = -(-(begins[-1] + short[-1].samples) // chunk) * chunk if short else 0

    def blocks():
        place = 0
        for piece, begin in zip(short, begins, strict=True):
            yield np.zeros((begin - place) * settings.channels, "<i2")
            yield spool.read(piece.offset, piece.samples)
            place = begin + piece.samples
        yield np.zeros((end - place) * settings.channels, "<i2")

    offset, samples, digest = spool.write(blocks())
    source = Source(
        path=name,
        fingerprint="",
        split=split if short else None,
        chunks=samples // chunk,
        silent_chunks=0,
        left_out=0,
        duration_s=0.0,
        rate=settings.rate,
        channels=settings.channels,
        gain_db=0.0,
        peak=0.0,
        rms=0.0,
        silent=False,
        note="" if short else "joined: no recording",
        members=[[piece.row, begin, piece.samples] for piece, begin in zip(short, begins, strict=True)],
    )
    return Piece(row, source, offset, samples, digest, [], hop=chunk)
