"""Records of shards that lie behind a URL, read by range requests."""

import codecs
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Protocol

import numpy as np

from shards.chunk import ChunkFormat
from shards.errors import DataError
from shards.manifest import FILE_NAME, LIMIT, Shard
from shards.manifest.ends import complaint
from shards.reading.remote.failures import WEB_PAGE, PermanentError, Place, in_words, remedy
from shards.reading.remote.fsspec_files import FsspecFiles
from shards.reading.remote.http_files import HttpFiles
from shards.reading.remote.retry import RETRY_POLICY, Retries, RetryPolicy
from shards.reading.remote.s3_files import S3Files

PIECE = 16 << 20  # bytes asked for at once
CHECKERS = 16  # sizes asked for at once
NO_MANIFEST = "there is no such file: it is no data folder, or it was not copied there whole. Check the URL"
OPENING_S = 60.0  # the longest wait for a host's name that has a typing mistake


class Files(Protocol):
    """Files of one folder. Each request ends after ``limit_s`` seconds, and raises failures as they come."""

    def listing(self, limit_s: float) -> dict[str, int | None] | None:
        """Names and sizes of all files, None where there is no such thing."""

    def size(self, name: str, limit_s: float) -> int | None:
        """Size of a file, None when the server does not say."""

    def read(self, name: str, offset: int, out: memoryview, limit_s: float) -> None:
        """Fill ``out`` with the bytes of a file from ``offset`` on."""

    def whole(self, name: str, limit_s: float, most: int) -> bytes:
        """All bytes of a file, of which there may be ``most``."""

    def close(self) -> None:
        """Close connections; reads that are under way fail."""


class RemoteRecords:
    """The records of a split behind any URL that fsspec opens: s3://, gs://, https://, memory://, file://.

    Failures that may pass (time-outs, dropped connections, 429, 5xx, short bodies) are retried; records that
    arrive damaged are fetched once more, and returned as they are when that does not help. Use it as a context
    manager, or call ``close``.

    Raises DataError, from the constructor and from ``read``, with one line that names the URL, without passwords
    or signatures, and the remedy.
    """

    def __init__(
        self,
        url: str,
        rows: list[Shard],
        shape: ChunkFormat,
        patience: RetryPolicy = RETRY_POLICY,
        connections: int = 16,
        verify_sizes: bool = True,
    ):
        """Connect, and unless ``verify_sizes`` is off compare the sizes of all shards with the manifest's.

        Then each shard's first and last record are compared, too, before another record of it is read: at once that
        would be two requests for each shard and process.

        ``url`` is the data folder; a query (of a signed URL) is handed on with every request. ``rows`` are the
        split's shards. No more than ``connections`` requests are under way at once.
        """
        self._rows, self._shape = rows, shape
        self._ends = np.cumsum([row.chunks for row in rows], dtype=np.int64)
        self._place = Place(url)
        self._retries = Retries(self._place, patience)
        self.refetched = 0  # records that arrived damaged
        self._unchecked = {i for i, row in enumerate(rows) if verify_sizes and row.ends and row.chunks}
        self._files = _connect(self._place, patience, connections)
        if verify_sizes:
            try:
                self._verify_sizes(_opening(patience))
            except BaseException:
                self.close()
                raise

    def __enter__(self) -> "RemoteRecords":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def retries(self) -> int:
        """Requests that failed and were made again."""
        return self._retries.count

    def read(self, first: int, out: np.ndarray) -> None:
        """Read the records from ``first`` on into uint8 [n, stride]; the run may cross shards."""
        self._fetch(first, out)
        bad = np.flatnonzero(self._shape.damaged(out))
        for row in bad.tolist():
            self._fetch(first + row, out[row : row + 1])
        self.refetched += len(bad)

    def close(self) -> None:
        """Close the connections and end the thread; a read under way fails."""
        self._retries.close()
        self._files.close()

    def _fetch(self, first: int, out: np.ndarray) -> None:
        if not (first >= 0 and first + len(out) <= (self._ends[-1] if len(self._ends) else 0)):
            raise IndexError(f"records {first} to {first + len(out) - 1} are not all in this split")
        stride, most, done = self._shape.stride, max(1, PIECE // self._shape.stride), 0
        while done < len(out):
            shard = int(np.searchsorted(self._ends, first + done, side="right"))
            row = self._rows[shard]
            if shard in self._unchecked:  # several threads may do it at once, which does no harm
                self._check_ends(row)
                self._unchecked.discard(shard)
            begin = first + done - (int(self._ends[shard]) - row.chunks)
            count = min(len(out) - done, row.chunks - begin, most)
            view = out[done : done + count].data.cast("B")
            self.read_piece(row.file, begin * stride, view)
            done += count

    def size(self, file: str) -> int | None:
        """Size of a shard, None when the server does not say; MissingError when it is not there."""
        return self._retries.call(f"shard {_below(self._place, file)}", lambda limit_s: self._files.size(file, limit_s))

    def read_piece(self, file: str, offset: int, out: memoryview) -> None:
        """Fill ``out`` with the bytes of a shard from ``offset`` on, as they arrive."""

        def request(limit_s: float) -> None:
            self._files.read(file, offset, out, limit_s)

        self._retries.call(f"shard {_below(self._place, file)}", request, len(out))

    def _check_ends(self, row: Shard) -> None:
        ends = np.empty((2, self._shape.stride), np.uint8)
        wrong = ""
        for _ in range(2):  # they may have been damaged on the way
            for record, out in zip((0, row.chunks - 1), ends, strict=True):
                self.read_piece(row.file, record * self._shape.stride, out.data.cast("B"))
            wrong = complaint(ends, row.ends, row.identity, row.chunks, self._shape)
            if not wrong:
                return
        raise DataError(f"shard {_below(self._place, row.file)} {wrong}. Copy it there again, with its {FILE_NAME}")

    def _verify_sizes(self, patience: RetryPolicy) -> None:
        retries = Retries(self._place, patience)
        listed = retries.call(self._place.shown, self._files.listing)
        if listed is not None:
            for row in self._rows:
                if row.file not in listed:
                    raise DataError(f"shard {_below(self._place, row.file)} is missing: copy it there again")
                self._verify_size(row, listed[row.file])
            return

        def check(row: Shard) -> None:
            what = f"shard {_below(self._place, row.file)}"
            self._verify_size(row, retries.call(what, lambda limit_s: self._files.size(row.file, limit_s)))

        with ThreadPoolExecutor(CHECKERS, "remote-sizes") as pool:
            try:
                list(pool.map(check, self._rows))
            except BaseException:
                retries.close()
                pool.shutdown(cancel_futures=True)
                raise

    def _verify_size(self, row: Shard, size: int | None) -> None:
        if size is not None and size != row.bytes:
            raise DataError(
                f"shard {_below(self._place, row.file)} has {size} bytes, the manifest says {row.bytes}: "
                "copy it there again"
            )


def read_manifest(url: str, patience: RetryPolicy = RETRY_POLICY) -> bytes:
    """The content of ``dataset.json`` in a data folder behind a URL. Raises DataError, also where it is too large."""
    place = Place(url)
    files = _connect(place, patience, 1)

    def request(_: float) -> bytes:
        try:
            content = files.whole(FILE_NAME, patience.total_s, LIMIT)  # it may be large
        except FileNotFoundError:
            raise PermanentError(NO_MANIFEST) from None
        if content[:512].removeprefix(codecs.BOM_UTF8).lstrip().startswith(b"<"):  # JSON never does
            raise PermanentError(WEB_PAGE)
        return content

    try:
        return Retries(place, _opening(patience)).call(_below(place, FILE_NAME), request)
    finally:
        files.close()


def _connect(place: Place, patience: RetryPolicy, connections: int) -> Files:
    try:
        if place.protocol in ("http", "https"):
            return HttpFiles(place.url, patience.answer_s, connections)
        kind = S3Files if place.protocol in ("s3", "s3a") else FsspecFiles
        return kind(place.url, place.shown, patience.answer_s, connections)
    except DataError:
        raise
    except Exception as error:  # such as an option in fsspec's settings that its package does not know
        reason = place.cleaned(in_words(error, patience.answer_s))
        raise DataError(f"{place.shown}: {reason}. {remedy(error, place.protocol)}") from None


def _below(place: Place, file: str) -> str:
    return f"{place.shown.rstrip('/')}/{file}"


def _opening(patience: RetryPolicy) -> RetryPolicy:
    return replace(patience, total_s=min(patience.total_s, OPENING_S))
