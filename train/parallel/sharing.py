"""What one process reads for all: the manifest of the data and the checkpoint to resume from.

A run of 1,024 processes would otherwise read both 1,024 times. Each shard is looked at by one process.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import TypeVar

import torch
from torch import Tensor

from shards import DataError, Manifest
from shards.reading.manifests import differs_here, parse_manifest, read_content
from train.optim.snapshot import Snapshot
from train.parallel.engine import Engine

T = TypeVar("T")


def shared_manifest(engine: Engine, data_dir: str) -> Manifest:
    """The manifest of a data folder or URL as rank 0 sees it; the other processes compare only its end with theirs.

    Raises:
        DataError: on every process, when it cannot be read or another node sees another one.
    """
    content = engine.share(together(engine, lambda: read_content(data_dir) if engine.is_main else b""))

    def compare() -> None:
        if not engine.is_main and differs_here(content, data_dir):
            raise DataError(
                f"{data_dir}: process {engine.rank} sees another dataset.json than process 0; "
                "wait until copies are complete, or name one folder"
            )

    together(engine, compare)
    return parse_manifest(content, data_dir)


def together(engine: Engine, action: Callable[[], T]) -> T:
    """Runs an action on every process and waits for all. Raises the first DataError of any process on all of them."""
    result, problem = None, None
    try:
        result = action()
    except DataError as error:
        problem = str(error)
    if found := engine.first(problem):
        raise DataError(found)
    return result  # type: ignore[return-value]


class SentTensors(Mapping[str, Tensor]):
    """Rank 0's tensors by name, each sent from its host memory when all processes ask for it, in the same order.

    So a process holds one tensor of a checkpoint at a time, and reads nothing.
    """

    def __init__(self, engine: Engine, tensors: Mapping[str, Tensor]) -> None:
        self._engine, self._own = engine, tensors
        listed = {name: (str(value.dtype).removeprefix("torch."), [*value.shape]) for name, value in tensors.items()}
        self._listed = engine.share(listed)

    def __getitem__(self, name: str) -> Tensor:
        """The tensor; every process must ask for it."""
        kind, shape = self._listed[name]
        mine = self._own[name].contiguous() if self._engine.is_main else torch.empty(shape, dtype=getattr(torch, kind))
        return self._engine.send(mine)

    def __contains__(self, name: object) -> bool:
        """Whether there is such a tensor: without sending it, which the base class would do."""
        return name in self._listed

    def __iter__(self) -> Iterator[str]:
        return iter(self._listed)

    def __len__(self) -> int:
        return len(self._listed)


def shared_snapshot(engine: Engine, snapshot: Snapshot | None) -> Snapshot:
    """Rank 0's snapshot for `Strategy.restore`, which every process must then call; the others pass None."""
    mine = snapshot or Snapshot({}, {}, {}, 0)
    if engine.world == 1:
        return mine
    updates, state, has_discriminator = engine.share((mine.updates, mine.state, mine.discriminator is not None))
    weights, averages, moments = (SentTensors(engine, part) for part in (mine.weights, mine.averages, mine.moments))
    discriminator = shared_snapshot(engine, mine.discriminator) if has_discriminator else None
    return Snapshot(weights, averages, moments, updates, state, discriminator)
