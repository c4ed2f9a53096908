"""A split as the tests of remote reading see it: the folder, the rows of the manifest, and all records."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from shards.chunk import END_OF_TAR, ChunkFormat
from shards.manifest import Manifest, Shard
from shards.reading.remote.retry import RetryPolicy

QUICK = RetryPolicy(answer_s=0.3, total_s=1.5, first_pause_s=0.01, longest_pause_s=0.05)


@dataclass(frozen=True)
class RemoteSplit:
    """What must come out of every way of reading."""

    folder: Path
    rows: list[Shard]
    shape: ChunkFormat
    records: np.ndarray  # uint8 [n, stride], as on the disk

    @classmethod
    def of(cls, folder: Path, name: str = "train") -> "RemoteSplit":
        manifest = Manifest.load(folder)
        rows, shape = manifest.splits[name], manifest.chunk_format
        content = [(folder / row.file).read_bytes()[: -len(END_OF_TAR)] for row in rows]
        return cls(folder, rows, shape, np.frombuffer(b"".join(content), np.uint8).reshape(-1, shape.stride))

    def room(self, count: int | None = None) -> np.ndarray:
        """Memory for so many records, all by default, with something else in it."""
        return np.full((len(self.records) if count is None else count, self.shape.stride), 0xAA, np.uint8)
