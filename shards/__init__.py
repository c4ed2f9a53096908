"""Recordings -> tar shards -> batches.

``python -m shards build AUDIO_DIR DATA_DIR`` makes the shards; in a training program::

    split = Split.open(DATA_DIR, "train")
    with BatchStream(split, batch=256, seed=0) as batches:
        for batch in batches: ...  # for ever; batch.audio is int16 [256, samples * channels]
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # the names that are imported on first use, with their types
    from shards.errors import DataError as DataError
    from shards.manifest import Manifest as Manifest
    from shards.reading.channels import by_channel as by_channel
    from shards.reading.order import EpochOrder as EpochOrder
    from shards.reading.schedule import Cursor as Cursor
    from shards.reading.schedule import steps_left as steps_left
    from shards.reading.split import Split as Split
    from shards.reading.stream import Batch as Batch
    from shards.reading.stream import BatchStream as BatchStream

DISTRIBUTION = "audio-autoencoder-training"
_HOMES = {
    "Batch": "reading.stream",
    "BatchStream": "reading.stream",
    "Cursor": "reading.schedule",
    "DataError": "errors",
    "EpochOrder": "reading.order",
    "Manifest": "manifest",
    "Split": "reading.split",
    "by_channel": "reading.channels",
    "steps_left": "reading.schedule",
}
__all__ = [*_HOMES]


def __getattr__(name: str) -> Any:
    """Import on first use: the builder's worker processes need no torch."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
