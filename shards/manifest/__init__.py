"""``dataset.json``, the only contract between the builder and the readers.

May import `shards.files`, `shards.chunk` and the sample rates of `shards.audio`.
"""

from shards.manifest.data_set import FILE_NAME, LIMIT, Manifest
from shards.manifest.rows import Level, Listed, Shard, Source

__all__ = ["FILE_NAME", "LIMIT", "Level", "Listed", "Manifest", "Shard", "Source"]
