"""Records from a copy on the node's own disk, which fills while it is read."""

import logging
import threading
from pathlib import Path

import numpy as np

from shards.chunk import ChunkFormat
from shards.errors import DataError
from shards.reading.sources.block_file import BlockFile, NoRoomError
from shards.reading.sources.memory import allocate
from shards.reading.sources.records import Records

COPY_BYTES = 16 << 20  # read from the source at once
SEARCH = 1 << 16  # blocks looked at together
POLL_S = 0.2  # between looks whether there is something to copy, and whether another process does it
PAUSE_S = 30.0  # after the source has failed
CLOSING_S = 5.0

_log = logging.getLogger(__name__)


class CachedRecords:
    """Records of ``source`` through a copy in ``folder`` that all processes of the node share.

    What is there is read from it, the rest from the source. One process of the node copies the missing blocks
    in order, until all are there or there is no more room; when it ends, another process continues. What training
    reads from the source is kept, too. No block ever makes way for another: each is read once an epoch, so
    that any part of the data is worth as much as any other.

    ``<fingerprint>.records`` and ``<fingerprint>.present`` stay in the folder for the next attempt of the job on
    this node; only the cluster or their owner deletes them. Use it as a context manager, or call
    ``close``, which closes the source as well.

    Raises DataError when the folder cannot be written. A disk that is full, or fails, ends the copying with one
    warning, and reading continues from the source.
    """

    def __init__(
        self,
        source: Records,
        folder: Path,
        fingerprint: str,
        count: int,
        shape: ChunkFormat,
        limit_bytes: int = 0,
        block: int = 64,
        copiers: int = 2,
        direct: bool = False,
    ):
        """Open or make the copy, and begin to fill it.

        ``fingerprint`` is the split's, ``count`` its records. ``limit_bytes`` bounds the copy, give or take the
        blocks that are being written; 0 leaves 5 percent of the disk free, which a limit does as well.
        ``copiers`` is the number of large reads that are under way in the background; with 0 only what is
        read anyway is kept. ``direct`` reads the copy around the page cache: for data that does not fit into memory.
        """
        self._source, self._shape, self._count, self._block = source, shape, count, block
        # Another size of block would misread the marks; the records are the same.
        name = fingerprint if block == 64 else f"{fingerprint}.{block}"
        self._file = BlockFile(folder, name, count, shape.stride, block, limit_bytes, direct)
        self.blocks = self._file.blocks
        self.healed = 0  # blocks that were damaged in the copy
        self._keeping = True
        self._closing = threading.Event()
        self._lock = threading.Lock()
        self._cursor = 0  # the copiers have been through the blocks before it
        self._under_way = 0  # runs of blocks that are being copied
        self._awaited = 0  # reads of the source that training waits for
        self._warned = False
        names = [f"scratch-{i}" for i in range(copiers)]
        self._threads = [threading.Thread(target=self._copy, name=name, daemon=True) for name in names]
        for thread in self._threads:
            self._file.enter()
            thread.start()

    def __enter__(self) -> "CachedRecords":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def present(self) -> int:
        """Blocks that are in the copy now."""
        return int(np.count_nonzero(self._file.present()))

    def read(self, first: int, out: np.ndarray) -> None:
        """Read the records from ``first`` on into uint8 [n, stride], present or not."""
        if not 0 <= first <= first + len(out) <= self._count:
            raise IndexError(f"records {first} to {first + len(out) - 1} are not all in this split")
        if not self._file.enter():
            raise DataError("the scratch copy was closed while it was read")
        try:
            end, begin = first + len(out), first
            while begin < end:
                stop, there = self._run(begin, end)
                part = out[begin - first : stop - first]
                if there:
                    self._load(begin, part)
                else:
                    self._fetch(begin, part)
                begin = stop
        finally:
            self._file.leave()

    def close(self) -> None:
        """End the copying, close the source, and the files, which stay for the next attempt.

        A copier that the source keeps waiting is left behind after some seconds.
        """
        self._closing.set()
        self._source.close()
        for thread in self._threads:
            thread.join(CLOSING_S)
        self._file.close()

    def _run(self, begin: int, end: int) -> tuple[int, bool]:
        """The end of the run of records from ``begin`` whose blocks are all there, or all missing; and which."""
        first, last = begin // self._block, (end - 1) // self._block
        states = self._file.present(first, last + 1)
        change = np.flatnonzero(states != states[0])
        return min(end, (first + int(change[0])) * self._block) if len(change) else end, bool(states[0])

    def _load(self, first: int, out: np.ndarray) -> None:
        """Read from the copy; blocks that are damaged there come from the source."""
        if self._file.load(first, out):
            bad = np.unique((first + np.flatnonzero(self._shape.damaged(out))) // self._block)
        else:
            bad = np.arange(first // self._block, (first + len(out) - 1) // self._block + 1)
        for block in bad.tolist():
            begin = max(first, block * self._block)
            end = min(first + len(out), (block + 1) * self._block)
            self._fetch(begin, out[begin - first : end - first])
        if len(bad):
            with self._lock:
                self.healed += len(bad)

    def _fetch(self, first: int, out: np.ndarray) -> None:
        """Read from the source and keep it: whole blocks, as long as they can be kept."""
        begin = first // self._block * self._block
        end = min(self._count, -(-(first + len(out)) // self._block) * self._block)
        if (begin, end) == (first, first + len(out)) or not self._keeping:
            records = out
            begin = first
        else:
            records = allocate((end - begin) * self._shape.stride).reshape(end - begin, self._shape.stride)
        with self._lock:
            self._awaited += 1
        try:
            self._source.read(begin, records)
        finally:
            with self._lock:
                self._awaited -= 1
        if self._keeping:
            self._keep(begin // self._block, records)
        if records is not out:
            out[:] = records[first - begin : first - begin + len(out)]

    def _keep(self, block: int, records: np.ndarray) -> None:
        """Store consecutive whole blocks. Damaged records, too: they are found, and fetched again, when read."""
        try:
            for row in range(0, len(records), self._block):
                self._file.store(block + row // self._block, records[row : row + self._block])
        except NoRoomError:
            self._stop_keeping("there is no more room for it")
        except OSError as error:
            self._stop_keeping(error.strerror or str(error))

    def _stop_keeping(self, reason: str) -> None:
        with self._lock:
            if not self._keeping:
                return
            self._keeping = False
        share = self.present / self.blocks
        _log.warning(
            "the copy in %s stays at %.0f %% of the split (%s); the rest is read from its source",
            self._file.records_path.parent,
            100 * share,
            reason,
        )

    def _copy(self) -> None:
        """What a copier does: large runs of missing blocks, one after the other."""
        try:
            most = max(1, COPY_BYTES // (self._block * self._shape.stride)) * self._block
            memory = allocate(most * self._shape.stride).reshape(most, self._shape.stride)
            while not self._closing.is_set() and self._keeping:
                run = self._next_run(most // self._block)
                if run is not None:
                    self._copy_run(*run, memory)
                elif self._file.present().all():
                    return
                else:
                    self._closing.wait(POLL_S)
        finally:
            self._file.leave()

    def _next_run(self, most: int) -> tuple[int, int] | None:
        """The next run of missing blocks, at most as many as asked for; None when there is none, or it is not the time.

        While training waits for the source, one block at a time is copied: most of the source's speed is its own.
        """
        with self._lock:
            if not self._file.claim() or (self._awaited and self._under_way):
                return None
            most = 1 if self._awaited else most
            while self._cursor < self.blocks:
                missing = self._cursor + np.flatnonzero(~self._file.present(self._cursor, self._cursor + SEARCH))
                if len(missing):
                    missing = missing[:most]
                    gaps = np.flatnonzero(np.diff(missing) != 1)
                    run = int(missing[0]), int(missing[gaps[0] if len(gaps) else -1]) + 1
                    self._cursor = run[1]
                    self._under_way += 1
                    return run
                self._cursor += SEARCH
            if not self._under_way:
                self._cursor = 0  # once more, for what failed
            return None

    def _copy_run(self, begin: int, end: int, memory: np.ndarray) -> None:
        """Copy the blocks from ``begin`` to ``end``, or wait a while when the source fails."""
        first = begin * self._block
        records = memory[: min(self._count, end * self._block) - first]
        try:
            self._source.read(first, records)
            if not self._closing.is_set():
                self._keep(begin, records)
        except DataError as error:
            self._wait_for_source(error)
        finally:
            with self._lock:
                self._under_way -= 1

    def _wait_for_source(self, error: DataError) -> None:
        with self._lock:
            warned, self._warned = self._warned or self._closing.is_set(), True
        if not warned:
            _log.warning("copying to %s pauses: %s", self._file.records_path.parent, error)
        self._closing.wait(PAUSE_S)
