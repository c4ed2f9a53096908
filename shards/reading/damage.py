"""Records that are not as they were written: found as they are read, replaced, counted, and reported."""

import threading
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from shards.errors import DataError
from shards.splitmix import mix

FREE = 8  # damaged chunks that a set may have however small it is, unless none are allowed
TRIES = 100


@dataclass(frozen=True)
class Damage:
    """A damaged chunk and what was used in its place."""

    chunk: int
    shard: str
    member: int  # row in the shard
    replacement: int  # chunk


class DamageReplacer:
    """Checks records as they are read and puts sound ones in the place of damaged ones.

    The replacement depends on the damaged chunk alone, and is of the same data set: every rank, and every run over
    the same damage, takes the same one. Any number of threads may use it.

    Args:
        damaged: Which records, uint8 [n, stride], of chunks, int64 [n], are not as they were written: bool [n].
        count: Chunks of the split.
        place: Shard and row of a chunk.
        read: Reads one record: chunk -> uint8 [stride].
        limit: The share of the split's chunks that may be damaged, beyond the first ``FREE``; 0 allows none.
        once: Whether to check a chunk only when it is first read: for bytes that stay in memory.
        bounds: The first chunk of a chunk's data set, and the one behind its last; None where there is one set.
    """

    def __init__(
        self,
        damaged: Callable[[np.ndarray, np.ndarray], np.ndarray],
        count: int,
        place: Callable[[int], tuple[str, int]],
        read: Callable[[int], np.ndarray],
        limit: float,
        once: bool,
        bounds: Callable[[int], tuple[int, int]] | None = None,
    ):
        self._damaged, self._count, self._place, self._read, self._limit = damaged, count, place, read, limit
        self._bounds = bounds or (lambda chunk: (0, count))
        self._seen = np.zeros(count, bool) if once else None
        self._found: dict[int, Damage] = {}
        self._lock = threading.Lock()
        self._told = 0

    def replace(self, chunks: np.ndarray, records: np.ndarray) -> np.ndarray:
        """Replace damaged records, uint8 [n, stride], in place; returns the chunks that are there now, int64 [n].

        Raises DataError when too many are damaged.
        """
        if self._seen is None:
            suspects = np.arange(len(chunks))
            bad = self._damaged(chunks, records)
        else:
            suspects = np.flatnonzero(~self._seen[chunks])
            bad = self._damaged(chunks[suspects], records[suspects]) if len(suspects) else np.zeros(0, bool)
            self._seen[chunks[suspects[~bad]]] = True  # damaged ones stay suspects
        if not bad.any():
            return chunks
        chunks = chunks.copy()
        for row in suspects[bad].tolist():
            chunks[row], records[row] = self._replacement(int(chunks[row]))
        return chunks

    def news(self) -> list[Damage]:
        """Damage found since the last call."""
        with self._lock:
            news = [*self._found.values()][self._told :]
            self._told = len(self._found)
        return news

    def _replacement(self, chunk: int) -> tuple[int, np.ndarray]:
        first, end = self._bounds(chunk)
        for attempt in range(TRIES):
            other = first + mix(chunk - first, attempt) % (end - first)
            record = self._read(other)
            if not self._damaged(np.array([other]), record[None])[0]:
                self._note(chunk, other)
                return other, record
        raise self._too_many(chunk)

    def _note(self, chunk: int, replacement: int) -> None:
        shard, member = self._place(chunk)
        with self._lock:
            self._found.setdefault(chunk, Damage(chunk, shard, member, replacement))
            found = len(self._found)
        allowed = self._limit and max(FREE, self._limit * self._count)
        if found > allowed:
            raise self._too_many(chunk)

    def _too_many(self, chunk: int) -> DataError:
        shard, member = self._place(chunk)
        return DataError(
            f"shard {shard}: member {member} is damaged, the {len(self._found) or 1}. damaged chunk of this run and "
            "one too many. Find all with: python -m shards verify DATA_DIR; copy the shard again, build the data "
            "again, or raise --data.damage_limit"
        )
