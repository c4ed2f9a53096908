"""One split of a data folder, memory-mapped: any chunk is one seek away."""

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from shards.chunk import NAME_LENGTH, TAR_HEADER, WAV_HEADER, read_names
from shards.errors import DataError
from shards.manifest import Manifest

AUDIO = (TAR_HEADER + WAV_HEADER) // 2  # where a record's samples begin, in int16 units


@dataclass(frozen=True)
class _Shard:
    """Views into one mapped file, one row a chunk."""

    path: Path
    audio: Tensor  # int16 [chunks, samples]
    heads: np.ndarray  # int16 [chunks, 22], the WAV headers
    names: np.ndarray  # uint8 [chunks, 25]


class Split:
    """Random access to the chunks of a split, numbered through its shards.

    Reading keeps no state, so threads and forked processes may share it; a fork must call
    ``torch.set_num_threads(1)`` first, as always with torch.
    """

    def __init__(self, folder: Path, manifest: Manifest, name: str):
        self.manifest, self.name = manifest, name
        shape = manifest.chunk_format
        self._header = np.frombuffer(shape.wav_header, np.int16)
        self._shards = [self._map(folder / row.file, row.chunks) for row in manifest.splits[name]]
        self._ends = np.cumsum([row.chunks for row in manifest.splits[name]], dtype=np.int64)
        self._keys: tuple[np.ndarray, np.ndarray] | None = None

    @classmethod
    def open(cls, data_dir: str | Path, name: str, verify_sizes: bool = True) -> "Split":
        """Open a split of a data folder.

        Raises DataError when the folder has no such split, or, unless ``verify_sizes`` is off, naming a
        shard that is missing or whose size disagrees with the manifest.
        """
        folder, manifest = Path(data_dir), Manifest.load(data_dir)
        if not manifest.splits.get(name):
            there = ", ".join(key for key, rows in manifest.splits.items() if rows) or "nothing"
            raise DataError(
                f"{folder} has no split {name!r}, only {there}: build from more recordings, or with a larger share"
            )
        if verify_sizes:
            manifest.check_sizes(folder, name)
        return cls(folder, manifest, name)

    def __len__(self) -> int:
        return int(self._ends[-1])

    @property
    def rate(self) -> int:
        """Samples per second."""
        return self.manifest.rate

    @property
    def samples(self) -> int:
        """Samples per chunk."""
        return self.manifest.samples

    @property
    def fingerprint(self) -> str:
        """Equal fingerprints mean the same chunks in the same order."""
        return self.manifest.split_fingerprint(self.name)

    def read(self, chunks: np.ndarray, out: Tensor | None = None) -> Tensor:
        """Audio of the given chunks, int64 [n] -> int16 [n, samples], written to ``out`` when given.

        Raises IndexError for a chunk outside the split, DataError for a member whose header is damaged.
        """
        chunks = np.asarray(chunks, np.int64)
        if out is None:
            out = torch.empty(len(chunks), self.samples, dtype=torch.int16)
        views: list[Tensor] = [out] * len(chunks)
        for shard, where, rows in self._by_shard(chunks):
            bad = (shard.heads[rows] != self._header).any(axis=1)
            if bad.any():
                raise self._damaged(shard, int(rows[bad.argmax()]))
            for place, row in zip(where.tolist(), rows.tolist(), strict=True):
                views[place] = shard.audio[row]
        # One call copies all rows outside the GIL. A gather per shard would be some fifty small parallel
        # calls a batch, each of which waits for all cores: 100 times slower while they are busy.
        return torch.stack(views, out=out) if views else out

    def names(self, chunks: np.ndarray) -> list[str]:
        """Member names of the given chunks, int64 [n]."""
        found = [""] * len(chunks)
        for shard, where, rows in self._by_shard(np.asarray(chunks, np.int64)):
            for place, name in zip(where, shard.names[rows], strict=True):
                found[place] = name.tobytes().decode("ascii", "backslashreplace")
        return found

    def keys(self) -> tuple[np.ndarray, np.ndarray]:
        """Source id and first sample of every chunk, two int64 [chunks], read from the tar headers once."""
        if self._keys is None:
            found = []
            for shard in self._shards:
                source, start, good = read_names(shard.names)
                if not good.all():
                    raise self._damaged(shard, int(np.flatnonzero(~good)[0]))
                found.append((source, start))
            self._keys = tuple(np.concatenate(column) for column in zip(*found, strict=True))
        return self._keys

    def close(self) -> None:
        """Let go of the mapped files."""
        self._shards = []

    def _map(self, path: Path, chunks: int) -> _Shard:
        stride, samples = self.manifest.chunk_format.stride // 2, self.manifest.samples
        try:
            # A private mapping: it needs no write access and holds no file descriptor.
            data = torch.from_file(str(path), shared=False, size=chunks * stride, dtype=torch.int16)
        except RuntimeError as error:
            raise DataError(f"shard {path} cannot be mapped ({str(error).splitlines()[0]}): copy it again") from None
        head = data.as_strided((chunks, WAV_HEADER // 2), (stride, 1), TAR_HEADER // 2).numpy()
        names = data.view(torch.uint8).as_strided((chunks, NAME_LENGTH), (2 * stride, 1)).numpy()
        return _Shard(path, data.as_strided((chunks, samples), (stride, 1), AUDIO), head, names)

    def _by_shard(self, chunks: np.ndarray):
        """For each shard that holds some of the chunks: it, their places in ``chunks``, their rows in it."""
        if len(chunks) and not 0 <= chunks.min() <= chunks.max() < len(self):
            raise IndexError(f"chunks must lie in [0, {len(self)})")
        shard = np.searchsorted(self._ends, chunks, side="right")
        order = np.argsort(shard, kind="stable")
        bounds = np.flatnonzero(np.diff(shard[order], prepend=-1, append=-1))
        for begin, end in pairwise(bounds):
            where = order[begin:end]
            k = shard[where[0]]
            yield self._shards[k], where, chunks[where] - (self._ends[k] - len(self._shards[k].audio))

    def _damaged(self, shard: _Shard, row: int) -> DataError:
        name = shard.names[row].tobytes().decode("ascii", "backslashreplace")
        folder = shard.path.parent
        return DataError(
            f"shard {shard.path}: member {row} ({name}) is damaged. Run: python -m shards verify {folder}; "
            "copy the shard again or build the data again"
        )
