"""The files of an audio folder before any is decoded."""

import os
from dataclasses import dataclass
from pathlib import Path

import soundfile
import xxhash

from shards.audio.decoding import inspect
from shards.audio.errors import DecodingError, reason
from shards.errors import DataError

EDGE = 1 << 16  # bytes read at either end of a file for its fingerprint
NOT_AUDIO = "not audio"
DANGLING = "unreadable: a link to a file that is not there"
# A file that is no audio to the decoders is a lost recording under one of these endings, any file otherwise.
_AUDIO = {"." + name.lower() for name in soundfile.available_formats()} - {".raw"}
_MORE_AUDIO = """
aac ac3 aif aifc amr ape asf avi dsf eac3 flv m4a m4b m4v mka mkv mov mp1 mp2 mp3 mp4 mpc mpeg mpg mpga oga opus ra rm
spx tak ts tta webm wma wv 3g2 3gp
"""
_AUDIO |= {f".{name}" for name in _MORE_AUDIO.split()}


@dataclass(frozen=True)
class Candidate:
    """A file of the audio folder."""

    path: str  # relative, with forward slashes
    size: int  # bytes
    modified: int  # ns
    fingerprint: str  # empty when it cannot be read
    seconds: float  # 0 when it has a problem
    problem: str  # why it is skipped without decoding it
    split: str | None = None

    def is_unchanged(self, folder: Path) -> bool:
        """Whether the file is still the one that was looked at. Raises OSError when it is gone."""
        status = (folder / self.path).stat()
        return (status.st_size, status.st_mtime_ns) == (self.size, self.modified)


def find_files(folder: Path) -> list[str]:
    """All regular files below a folder but hidden ones, as sorted relative paths; links are followed.

    A link to nothing is one too: it may be a lost recording.
    """

    def fail(error: OSError) -> None:
        raise DataError(f"cannot list {error.filename}: {error.strerror}")

    found, visited = [], set()
    for here, folders, files in os.walk(folder, onerror=fail, followlinks=True):
        real = os.path.realpath(here)
        if real in visited:  # a link back into the tree
            folders.clear()
            continue
        visited.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        paths = (Path(here, name) for name in files if not name.startswith("."))
        found += [
            path.relative_to(folder).as_posix()
            for path in paths
            if path.is_file() or (path.is_symlink() and not path.exists())
        ]
    return sorted(found)


def probe(folder: Path, path: str) -> Candidate:
    """Look at one file without decoding it."""
    file = folder / path
    has_audio_name = file.suffix.lower() in _AUDIO
    size, modified, fingerprint, seconds, problem = 0, 0, "", 0.0, ""
    try:
        status = file.stat()
        size, modified = status.st_size, status.st_mtime_ns
        fingerprint = _fingerprint(file, size)
        if size == 0:
            raise DecodingError("empty: it has no bytes")
        # Streams may not know their length; the size stands in, which only balances the parts.
        seconds = inspect(file, has_audio_name).seconds or size / 32000
    except DecodingError as error:
        problem = str(error) if has_audio_name or error.kind != "unreadable" else NOT_AUDIO
    except OSError as error:
        problem = DANGLING if isinstance(error, FileNotFoundError) and file.is_symlink() else reason(error)
    return Candidate(path, size, modified, fingerprint, seconds, problem)


def _fingerprint(file: Path, size: int) -> str:
    """Hash of a file's size and ends, cheap enough for terabytes of recordings."""
    with open(file, "rb") as stream:
        head = stream.read(EDGE)
        stream.seek(max(size - EDGE, 0))
        return xxhash.xxh3_128_hexdigest(size.to_bytes(8, "little") + head + stream.read(EDGE))
