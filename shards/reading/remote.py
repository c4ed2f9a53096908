"""Records of shards that lie behind a URL, read by range requests."""

from dataclasses import dataclass

import numpy as np

from shards.chunk import ChunkFormat
from shards.manifest import Shard


@dataclass(frozen=True)
class Patience:
    """How long to wait for a server. Seconds."""

    answer_s: float = 30.0  # without a connection, or without a single byte
    total_s: float = 300.0  # for one read with all its retries
    first_pause_s: float = 0.2  # before the first retry; doubled each time, and drawn at random below that
    longest_pause_s: float = 20.0


class RemoteRecords:
    """The records of a split behind any URL that fsspec opens: s3://, gs://, https://, memory://, file://.

    Failures that may pass (time-outs, dropped connections, 429, 5xx, short bodies) are retried; records that
    arrive damaged are fetched once more, and returned as they are when that does not help. Use it as a context
    manager, or call ``close``.

    Raises DataError, from the constructor and from ``read``, with one line that names the URL, without passwords
    or signatures, and the remedy.
    """

    retries: int  # failed requests so far
    refetched: int  # records that arrived damaged so far

    def __init__(
        self,
        url: str,
        rows: list[Shard],
        shape: ChunkFormat,
        patience: Patience = Patience(),
        connections: int = 16,
        verify_sizes: bool = True,
    ):
        """Connect, and unless ``verify_sizes`` is off compare the sizes of all shards with the manifest's.

        ``url`` is the data folder; a query (of a signed URL) is handed on with every request. ``rows`` are the
        split's shards. At most ``connections`` requests are under way at once.
        """
        raise NotImplementedError

    def read(self, first: int, out: np.ndarray) -> None:
        """Read the records from ``first`` on into uint8 [n, stride]; the run may cross shards."""
        raise NotImplementedError

    def close(self) -> None:
        """Close the connections and end the thread; a read under way fails."""
        raise NotImplementedError


def is_url(place: object) -> bool:
    """Whether a data folder is given as a URL."""
    return "://" in str(place)


def read_manifest(url: str, patience: Patience = Patience()) -> bytes:
    """The content of ``dataset.json`` in a data folder behind a URL. Raises DataError."""
    raise NotImplementedError
