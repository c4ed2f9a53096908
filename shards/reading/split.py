"""One split of a data folder: any chunk by its number."""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from shards.chunk import HEADERS, NAME_LENGTH, identity_bytes, member_name, read_names, stored_identities
from shards.errors import DataError
from shards.manifest import Manifest
from shards.manifest.joining import DataSet, join_manifests, set_names
from shards.mixing.places import parse_places, text_of
from shards.reading.manifests import is_url, load_manifest, shown
from shards.reading.parts import copied, parts_of
from shards.reading.sources.joined import JoinedRecords
from shards.reading.sources.mapped import MAX_SHARDS, MappedShards
from shards.reading.sources.memory import allocate, installed_memory
from shards.reading.sources.records import Records

AT_ONCE = 256  # records looked at together, 12 MB


class Split:
    """Random access to the chunks of a split of one data set, or of several, numbered through their shards.

    Reading keeps no state, so threads and forked processes may share it; a fork must call
    ``torch.set_num_threads(1)`` first, as always with torch.

    Args:
        manifest: The manifest of the data; of several data sets the joined one.
        name: The split's name.
        records: Where its bytes come from.
        mapped: The same as memory, where that is possible.
        where: What people call the data: its folder or URL.
        sets: The data sets that have the split, in order; None for one.
    """

    def __init__(
        self,
        manifest: Manifest,
        name: str,
        records: Records,
        mapped: MappedShards | None,
        where: str,
        sets: Sequence[DataSet] | None = None,
    ):
        self.manifest, self.name, self.records, self.mapped, self.where = manifest, name, records, mapped, where
        self._rows = manifest.splits[name]
        self._ends = np.cumsum([row.chunks for row in self._rows], dtype=np.int64)
        self._keys: tuple[np.ndarray, np.ndarray] | None = None
        self._identities = np.stack([identity_bytes(row.identity) for row in self._rows])
        self.sets = tuple(
            sets or [DataSet(set_names([where])[0], where, self.fingerprint, len(self), len(manifest.sources))]
        )
        self._set_ends = np.cumsum([one.chunks for one in self.sets], dtype=np.int64)

    @classmethod
    def open(
        cls,
        data_dir: str | Path,
        name: str,
        verify_sizes: bool = True,
        scratch: Path | None = None,
        scratch_bytes: int = 0,
        manifests: Sequence[Manifest] | None = None,
        share: tuple[int, int] = (0, 1),
    ) -> "Split":
        """Open a split of a data folder, or of the URL of one (s3://, gs://, https:// and others), or of several.

        Several are named as ``music/ + speech/:0.3``, see ``parse_places``. Each must have the split if it is
        "train"; of other splits those that have it are taken. ``scratch`` is a folder to copy the data to while it is
        read from where it is, of ``scratch_bytes`` at most, see ``CachedRecords``. ``manifests`` are those of the data
        sets where they have been read already. ``share`` is this process's number and the number of processes that
        verify the shards together.

        Raises DataError when there is no such split, when several do not fit together, or, unless ``verify_sizes`` is
        off, naming a shard that is missing, or whose size or first and last record disagree with the manifest. The
        records of a remote shard are compared when it is first read.
        """
        places = parse_places(data_dir)
        manifests = manifests or [load_manifest(place.path)[0] for place in places]
        parts = parts_of(places, manifests, name)
        joined = join_manifests(manifests, [part.set.name for part in parts])
        chosen = [part for part in parts if part.set.chunks]
        # Mapping opens every shard. Of data that no memory holds, only blocks are read.
        rows, local = joined.splits[name], not any(is_url(part.path) for part in chosen)
        small = len(rows) <= MAX_SHARDS and sum(row.bytes for row in rows) <= installed_memory()
        if verify_sizes:
            for part in chosen:
                part.check(name, share)
        sources: list[Records] = [part.records(name, verify_sizes) for part in chosen]
        mapped = None
        if small and local and not scratch:
            paths = [Path(part.path) / row.file for part in chosen for row in part.manifest.splits[name]]
            mapped = MappedShards(paths, rows, joined.chunk_format)
        counts = [part.set.chunks for part in chosen]
        if scratch:
            sources = copied(sources, [part.set for part in chosen], joined.chunk_format, scratch, scratch_bytes)
        records = sources[0] if len(sources) == 1 else JoinedRecords(sources, counts)
        where = text_of(places, shown)
        return cls(joined, name, records, mapped, where, [part.set for part in parts])

    def check_batch(self, batch: int, world: int) -> None:
        """Raises DataError when ``world`` processes cannot share batches of ``batch`` chunks of this split."""
        if batch < world:
            raise DataError(f"a batch of {batch} leaves some of {world} processes without a row: raise the batch size")
        if batch > len(self):
            raise DataError(
                f"split {self.name!r} has only {len(self)} chunks: lower the batch size from {batch}, "
                "or build from more recordings"
            )

    def __len__(self) -> int:
        return int(self._ends[-1])

    @property
    def rate(self) -> int:
        """Samples per second."""
        return self.manifest.rate

    @property
    def samples(self) -> int:
        """Samples per chunk, in each channel."""
        return self.manifest.samples

    @property
    def channels(self) -> int:
        """Channels, whose samples are interleaved; see ``by_channel``."""
        return self.manifest.channels

    @property
    def bytes(self) -> int:
        """Size of all records."""
        return len(self) * self.manifest.chunk_format.stride

    @property
    def fingerprint(self) -> str:
        """Equal fingerprints mean the same chunks in the same order."""
        return self.manifest.split_fingerprint(self.name)

    def read(self, chunks: np.ndarray, out: Tensor | None = None) -> Tensor:
        """Audio of the given chunks, int64 [n] -> int16 [n, samples * channels], with the gains of the data sets.

        It is written to ``out`` when given. Raises IndexError for a chunk outside the split, DataError for a damaged
        one.
        """
        chunks = self._inside(chunks)
        if out is None:
            out = torch.empty(len(chunks), self.samples * self.channels, dtype=torch.int16)
        shape = self.manifest.chunk_format
        for begin in range(0, len(chunks), AT_ONCE):
            here = chunks[begin : begin + AT_ONCE]
            records = self.raw(here)
            bad = self.damaged(here, records)
            if bad.any():
                shard, member = self.place(int(here[bad.argmax()]))
                raise DataError(
                    f"shard {shard}: member {member} ({_name(records[bad.argmax()])}) is damaged. "
                    f"Run: python -m shards verify {self.where}; copy the shard again or build the data again"
                )
            self.amplify(here, records)
            audio = records[:, HEADERS : shape.hashed].view(np.int16)
            out[begin : begin + AT_ONCE] = torch.from_numpy(audio)
        return out

    def names(self, chunks: np.ndarray | Sequence[int]) -> list[str]:
        """Member names of the given chunks, int64 [n].

        Of several data sets, recordings are numbered through all of them: as the rows of ``manifest.sources``.
        """
        chunks = self._inside(chunks)
        heads, offsets = self._heads(chunks), self.source_offsets(chunks)
        if not offsets.any():
            return [_name(row) for row in heads]
        source, start, good = read_names(heads)
        return [
            member_name(*key) if whole else _name(row)
            for row, whole, key in zip(
                heads, good.tolist(), zip((source + offsets).tolist(), start.tolist(), strict=True), strict=True
            )
        ]

    def keys(self) -> tuple[np.ndarray, np.ndarray]:
        """Source id and first sample of every chunk, two int64 [chunks], read from the tar headers once."""
        if self._keys is None:
            found = []
            for begin in range(0, len(self), AT_ONCE):
                here = np.arange(begin, min(begin + AT_ONCE, len(self)))
                source, start, good = read_names(self._heads(here))
                if not good.all():
                    shard, member = self.place(int(here[good.argmin()]))
                    raise DataError(
                        f"shard {shard}: the name of member {member} is damaged. "
                        f"Run: python -m shards verify {self.where}; copy the shard again or build the data again"
                    )
                found.append((source + self.source_offsets(here), start))
            source, start = (np.concatenate(column) for column in zip(*found, strict=True))
            self._keys = source, start
        return self._keys

    def place(self, chunk: int) -> tuple[str, int]:
        """The path of a chunk's shard, and the chunk's row in it."""
        shard = int(np.searchsorted(self._ends, chunk, side="right"))
        where = self.sets[self.set_of(np.array([chunk]))[0]].where
        return f"{where}/{self._rows[shard].file}", chunk - int(self._ends[shard] - self._rows[shard].chunks)

    def set_of(self, chunks: np.ndarray) -> np.ndarray:
        """Which of ``sets`` the given chunks are of: int64 [n] -> int64 [n]."""
        return np.searchsorted(self._set_ends, chunks, side="right")

    def bounds(self, chunk: int) -> tuple[int, int]:
        """The first chunk of a chunk's data set, and the one behind its last."""
        one = int(self.set_of(np.array([chunk]))[0])
        return int(self._set_ends[one]) - self.sets[one].chunks, int(self._set_ends[one])

    def amplify(self, chunks: np.ndarray, records: np.ndarray) -> None:
        """Apply the gains of their data sets to whole records, uint8 [n, stride], of chunks, int64 [n], in place."""
        if not any(one.gain_db for one in self.sets):
            return
        sets, shape = self.set_of(chunks), self.manifest.chunk_format
        for number, one in enumerate(self.sets):
            if one.gain_db and len(rows := np.flatnonzero(sets == number)):
                audio = records[:, HEADERS : shape.hashed].view(np.int16)
                # A gain that would clip more than rounding does is refused when the data set is opened.
                louder = np.rint(audio[rows] * np.float32(10 ** (one.gain_db / 20)))
                audio[rows] = np.clip(louder, -32768, 32767).astype(np.int16)

    def raw(self, chunks: np.ndarray) -> np.ndarray:
        """Whole records of the given chunks as they are stored, int64 [n] -> uint8 [n, stride]."""
        stride = self.manifest.chunk_format.stride
        out = allocate(len(chunks) * stride).reshape(-1, stride) if len(chunks) else np.empty((0, stride), np.uint8)
        if self.mapped:
            return np.take(self.mapped.records, chunks, 0, out, "clip")
        runs = np.flatnonzero(np.diff(chunks, prepend=-2, append=-2) != 1)
        for begin, end in pairwise(runs):
            self.records.read(int(chunks[begin]), out[begin:end])
        return out

    def damaged(self, chunks: np.ndarray, records: np.ndarray) -> np.ndarray:
        """Which records, uint8 [n, stride], are not as the build of this data wrote the given chunks: bool [n].

        They have changed, or they are of another shard or build, such as in a shard that was overwritten in part.
        """
        expected = self._identities[np.searchsorted(self._ends, chunks, side="right")]
        other = (stored_identities(records) != expected).any(axis=1)
        return self.manifest.chunk_format.damaged(records) | (other & expected[:, 0].astype(bool))

    def close(self) -> None:
        """Let go of files and connections, and end the copying."""
        self.records.close()
        if self.mapped:
            self.mapped.close()

    def source_offsets(self, chunks: np.ndarray) -> np.ndarray:
        """What to add to the source ids of chunks, int64 [n]: sources of the data sets before theirs."""
        begins = np.cumsum([0, *(one.sources for one in self.sets[:-1])], dtype=np.int64)
        return begins[self.set_of(chunks)]

    def _heads(self, chunks: np.ndarray) -> np.ndarray:
        """The names of chunks as they are stored, uint8 [n, 25]."""
        if self.mapped:
            return self.mapped.records[chunks, :NAME_LENGTH]
        return self.raw(chunks)[:, :NAME_LENGTH]

    def _inside(self, numbers: np.ndarray | Sequence[int]) -> np.ndarray:
        chunks = np.asarray(numbers, np.int64)
        if len(chunks) and not 0 <= chunks.min() <= chunks.max() < len(self):
            raise IndexError(f"chunks must lie in [0, {len(self)})")
        return chunks


def _name(record: np.ndarray) -> str:
    return record[:NAME_LENGTH].tobytes().decode("ascii", "backslashreplace")
