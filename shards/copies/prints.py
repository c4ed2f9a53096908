"""The acoustic fingerprints of the recordings of one part of a data set, and their file."""

import errno
import io
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from shards.copies.landmarks import landmarks
from shards.copies.textures import BANDS, LONGEST_S, texture
from shards.errors import DataError
from shards.files import read_file

SUFFIX = ".npz"
SHORTEST_S = 1.0  # of a recording that gets landmarks
LIMIT = 1 << 31  # bytes of a file
_TYPES = {"rows": np.int64, "counts": np.int64, "hashes": np.uint32, "frames": np.uint32}
_TYPES |= {"short": np.int64, "textures": np.uint8}


@dataclass(frozen=True)
class Print:
    """The fingerprint of one recording.

    Attributes:
        row: Of the recording in the manifest.
        hashes: Of its landmarks, uint32 [n].
        frames: Of their beginnings, uint32 [n].
        texture: int8 [BANDS] of a short recording; None of a long one.
    """

    row: int
    hashes: np.ndarray
    frames: np.ndarray
    texture: np.ndarray | None


def make_print(row: int, read: Callable[[int, int], np.ndarray], samples: int, rate: int) -> Print:
    """The fingerprint of a recording: `read` gives samples, begin and count -> [count]; `rate` in Hz."""
    none = np.empty(0, np.uint32)
    hashes, frames = landmarks(read, samples, rate) if samples >= SHORTEST_S * rate else (none, none)
    return Print(row, hashes, frames, texture(read, samples, rate) if samples <= LONGEST_S * rate else None)


def to_bytes(prints: list[Print]) -> bytes:
    """The content of a file; the same prints give the same bytes."""
    short = [one for one in prints if one.texture is not None]
    textures = np.array([one.texture for one in short], np.int8).reshape(len(short), BANDS)
    arrays: dict[str, Any] = {
        "rows": np.array([one.row for one in prints]),
        "counts": np.array([len(one.hashes) for one in prints]),
        "hashes": np.concatenate([one.hashes for one in prints]) if prints else [],
        "frames": np.concatenate([one.frames for one in prints]) if prints else [],
        "short": np.array([one.row for one in short]),
        "textures": np.packbits(np.concatenate([textures > 0, textures != 0], axis=1), axis=1),
    }
    file = io.BytesIO()
    typed: dict[str, Any] = {name: np.asarray(arrays[name], kind) for name, kind in _TYPES.items()}
    np.savez(file, **typed)
    return file.getvalue()


def load_prints(path: Path) -> list[Print]:
    """Reads a file; nothing in it is executed.

    Raises DataError when it is missing or damaged, OSError when the disk does not give it.
    """
    try:
        content = io.BytesIO(read_file(path, follow_links=True, limit=LIMIT))
        with zipfile.ZipFile(content) as packed:  # a compressed one could be far larger than it looks
            if sum(one.file_size for one in packed.infolist()) > LIMIT:
                raise ValueError("size")
        with np.load(content, allow_pickle=False) as file:
            arrays = {name: file[name] for name in _TYPES}
        return _parsed(arrays)
    except OSError as error:
        if error.errno == errno.EIO:
            raise
        raise DataError(f"{path} is missing or damaged") from None
    except (ValueError, KeyError, EOFError, MemoryError, zipfile.BadZipFile, NotImplementedError):
        raise DataError(f"{path} is missing or damaged") from None


def _parsed(arrays: dict[str, np.ndarray]) -> list[Print]:
    """Raises ValueError when the arrays do not fit each other."""
    rows, counts, short = arrays["rows"], arrays["counts"], arrays["short"]
    if any(arrays[name].dtype != kind for name, kind in _TYPES.items()) or rows.shape != counts.shape or rows.ndim != 1:
        raise ValueError("shape")
    if (counts < 0).any() or not counts.sum() == len(arrays["hashes"]) == len(arrays["frames"]):
        raise ValueError("counts")
    if arrays["textures"].shape != (len(short), BANDS // 4):
        raise ValueError("textures")
    bits = np.unpackbits(arrays["textures"], axis=1).astype(np.int8)
    textures = dict(zip(short.tolist(), (2 * bits[:, :BANDS] - 1) * bits[:, BANDS:], strict=True))
    ends = np.cumsum(counts)
    spans = [slice(end - count, end) for end, count in zip(ends.tolist(), counts.tolist(), strict=True)]
    return [
        Print(row, arrays["hashes"][span], arrays["frames"][span], textures.get(row))
        for row, span in zip(rows.tolist(), spans, strict=True)
    ]
