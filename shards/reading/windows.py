"""Windows of fixed places in the records of a split: what is measured where a model takes less than a record."""

from collections.abc import Sequence

import numpy as np
import torch
import xxhash
from torch import Tensor

from shards.chunk import member_name, parse_name
from shards.errors import DataError
from shards.reading.split import Split
from shards.tiling import chunk_starts


class Windows(Split):
    """A split whose chunks are the consecutive windows of another split's records.

    Window k of record i has the number ``i * per_record + k``. The windows of a record lie next to each other from its
    beginning on; the last one is moved back to end with it, so that no sample is left out. A batch stream reads whole
    records and takes the other split.

    Attributes:
        per_record: The windows of a record.
    """

    def __init__(self, whole: Split, samples: int):
        """``samples`` is the length of a window, at most that of a record of ``whole``."""
        super().__init__(whole.manifest, whole.name, whole.records, whole.mapped, whole.where, whole.sets)
        self._whole, self._samples = whole, samples
        self._offsets = chunk_starts(whole.samples, samples, samples)
        self.per_record = len(self._offsets)

    def __len__(self) -> int:
        return len(self._whole) * self.per_record

    @property
    def samples(self) -> int:
        """Samples per window, in each channel."""
        return self._samples

    @property
    def fingerprint(self) -> str:
        """Equal fingerprints mean the same windows in the same order."""
        return xxhash.xxh3_128_hexdigest(f"{self._whole.fingerprint}/{self._samples}".encode())

    def read(self, chunks: np.ndarray, out: Tensor | None = None) -> Tensor:
        """Audio of the given windows; see ``Split.read``."""
        records, window = np.divmod(self._inside(chunks), self.per_record)
        needed, row = np.unique(records, return_inverse=True)
        whole = self._whole.read(needed)
        if out is None:
            out = torch.empty(len(records), self._samples * self.channels, dtype=torch.int16)
        return cut(whole, row, self._offsets[window], self._samples, out, self.channels)

    def names(self, chunks: np.ndarray | Sequence[int]) -> list[str]:
        """Names of the given windows, as if each were a member: source and first sample in the recording."""
        records, window = np.divmod(self._inside(chunks), self.per_record)
        names = map(parse_name, self._whole.names(records))
        offsets = self._offsets[window].tolist()
        return [member_name(source, start + k) for (source, start), k in zip(names, offsets, strict=True)]

    def keys(self) -> tuple[np.ndarray, np.ndarray]:
        """Source id and first sample of every window; see ``Split.keys``."""
        source, start = self._whole.keys()
        return np.repeat(source, self.per_record), (start[:, None] + self._offsets).reshape(-1)

    def set_of(self, chunks: np.ndarray) -> np.ndarray:
        """Which of ``sets`` the given windows are of; see ``Split.set_of``."""
        return self._whole.set_of(np.asarray(chunks) // self.per_record)

    def place(self, chunk: int) -> tuple[str, int]:
        """The path of the shard of a window's record, and the record's row in it."""
        return self._whole.place(chunk // self.per_record)

    def raw(self, chunks: np.ndarray) -> np.ndarray:
        """The whole records of the given windows; see ``Split.raw``."""
        return self._whole.raw(np.asarray(chunks, np.int64) // self.per_record)

    def damaged(self, chunks: np.ndarray, records: np.ndarray) -> np.ndarray:
        """Which whole records of the given windows are damaged; see ``Split.damaged``."""
        return self._whole.damaged(np.asarray(chunks, np.int64) // self.per_record, records)

    def close(self) -> None:
        """See ``Split.close``."""
        self._whole.close()


def windows_of(split: Split, samples: int) -> Split:
    """A split of chunks of ``samples`` samples: the split itself, or the consecutive windows of its records.

    0 stands for whole records. Raises DataError where records are shorter.
    """
    if samples > split.samples:
        raise DataError(
            f"{split.where}: chunks of {split.samples:,} samples, less than a window of {samples:,}: build the data "
            f"again into another folder, with python -m shards build ... --samples {samples} or more"
        )
    return split if samples in (0, split.samples) else Windows(split, samples)


def cut(
    values: Tensor,
    rows: np.ndarray,
    first: np.ndarray,
    samples: int,
    out: Tensor | None = None,
    channels: int = 1,
) -> Tensor:
    """Windows of ``samples`` samples each: out of which rows, and from which samples on.

    values [n, T * channels] with those of a row next to each other and the channels interleaved, rows and first
    int64 [m] -> [m, samples * channels] on the same device, written to ``out`` when given. There is no check that the
    windows lie inside the rows.
    """
    samples, first = samples * channels, first * channels
    if not len(rows):
        return values.new_empty(0, samples) if out is None else out
    step = values.stride(0)
    begins = torch.from_numpy(np.asarray(rows * step + first, np.int64)).to(values.device, non_blocking=True)
    count = (len(values) - 1) * step + values.shape[1] - samples + 1
    # All windows at all places, as a view: each one that is taken is copied in one piece.
    return torch.index_select(values.as_strided((count, samples), (1, 1)), 0, begins, out=out)
