"""The files of an audio folder before any is decoded."""

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import soundfile
import xxhash

from shards.audio.decoding import inspect
from shards.audio.errors import DecodingError, reason
from shards.audio.recording import Decoder
from shards.errors import DataError
from shards.files.hashing import xxh3_of
from shards.manifest import Source

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
    content: str = ""  # hash of the whole file; only where another file has the same fingerprint
    group: str = ""  # name of the recordings that it stays together with
    divided: bool = False  # whether this row stands for the part of the recording that belongs to its split

    @classmethod
    def of(cls, source: Source) -> "Candidate":
        """A recording that the data set holds and that has not changed."""
        return cls(source.path, source.size, source.modified_ns, source.fingerprint, source.duration_s, "")

    @property
    def key(self) -> str:
        """Hash that decides about the split by chance; files with the same bytes have the same."""
        return self.content or self.fingerprint

    def is_unchanged(self, folder: Path) -> bool:
        """Whether the file is still the one that was looked at. Raises OSError when it is gone."""
        status = (folder / self.path).stat()
        return (status.st_size, status.st_mtime_ns) == (self.size, self.modified)


def find_files(folder: Path) -> tuple[list[str], list[str]]:
    """All regular files below a folder but hidden ones, as sorted relative paths; links are followed.

    A link to nothing is one too: it may be a lost recording. Returns the files, and the subfolders that cannot be
    listed, such as a lost+found, each with the reason. Raises DataError when the folder itself cannot be listed.
    """
    closed: list[str] = []

    def note(error: OSError) -> None:
        if Path(error.filename) == folder:
            raise DataError(f"cannot list {error.filename}: {error.strerror}")
        closed.append(f"{error.filename}: {error.strerror}")

    found, visited = [], set()
    for here, folders, files in os.walk(folder, onerror=note, followlinks=True):
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
    return sorted(found), sorted(closed)


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


def recheck(folder: Path, path: str, known: Source, decoder: Callable[[Path], Decoder], reread: bool) -> Candidate:
    """Look at a recording of the data set again: what it was, or with another fingerprint what it is now.

    It is the same when size and time of change are, unless `reread` asks to read it; else when its bytes are; else
    when its audio is, such as after a change of its tags. ``decoder`` makes the decoder of the build, which gets a
    folder for what does not fit into memory.
    """
    file = folder / path
    try:
        status = file.stat()
    except OSError:
        return probe(folder, path)
    if not known.content:  # a row of a version before
        now = probe(folder, path)
        return now if now.fingerprint != known.fingerprint or now.problem else Candidate.of(known)
    if not reread and (status.st_size, status.st_mtime_ns) == (known.size, known.modified_ns):
        return Candidate.of(known)
    try:
        if xxh3_of(file) == known.content or _hash_audio(file, decoder) == known.audio:
            return Candidate.of(known)
    except (DecodingError, OSError):
        pass
    return replace(probe(folder, path), fingerprint="changed")


def _hash_audio(file: Path, decoder: Callable[[Path], Decoder]) -> str:
    """xxh3-128 of the samples that a build would take. Raises DecodingError, OSError."""
    checksum = xxhash.xxh3_128()
    with TemporaryDirectory() as scratch, decoder(Path(scratch)).read(file) as recording:
        for block in recording.audio():
            checksum.update(block.data)
    return checksum.hexdigest()


def _fingerprint(file: Path, size: int) -> str:
    """Hash of a file's size and ends, cheap enough for terabytes of recordings."""
    with open(file, "rb") as stream:
        head = stream.read(EDGE)
        stream.seek(max(size - EDGE, 0))
        return xxhash.xxh3_128_hexdigest(size.to_bytes(8, "little") + head + stream.read(EDGE))
