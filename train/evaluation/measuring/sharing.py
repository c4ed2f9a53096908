"""Tables computed by all processes: each row by exactly one of them."""

from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

from shards.progress import progress
from train.evaluation.measuring.heldout import AT_A_TIME
from train.parallel.engine import Engine

Columns = dict[str, np.ndarray]


@contextmanager
def shown(title: str, total: int, engine: Engine) -> Iterator[Callable[[float], None]]:
    """Shows a progress bar on the main process; yields the function that updates it."""
    if engine.is_main:
        with progress(title, total) as show_done:
            yield show_done
    else:
        yield lambda done: None


def whole_table(
    engine: Engine,
    title: str,
    count: int,
    columns_of: Callable[[np.ndarray], dict[str, Tensor]],
    at_a_time: int = AT_A_TIME,
) -> Columns:
    """Computes the columns of rows 0 to `count` - 1, the same on every process.

    Batches do not depend on the number of processes: process b modulo their number computes batch b. A row therefore
    comes from the same batch for any number of processes. It differs only by rounding, if the number of threads per
    process differs.

    Args:
        engine: The processes.
        title: Title of the progress bar.
        count: Number of rows.
        columns_of: From row numbers int64 [n] to columns [n, ...], each float32 or integers below 2^24.
        at_a_time: Rows per batch.

    Returns:
        Each column as float32 [count, ...]; no columns if there are no rows.

    Raises:
        TrainError: on every process, if `columns_of` fails on one of them.
    """

    def own() -> tuple[list[np.ndarray], dict[str, list[Tensor]]]:
        rows, parts = [], defaultdict(list)
        with shown(title, count, engine) as show_done, torch.no_grad():
            for first in range(engine.rank * at_a_time, count, engine.world * at_a_time):
                rows.append(np.arange(first, min(first + at_a_time, count)))
                for name, value in columns_of(rows[-1]).items():
                    parts[name].append(value.float().to(engine.device))
                show_done(min(count, first + engine.world * at_a_time))
        return rows, parts

    rows, parts = engine.everywhere(own)
    # The main process computes the first batch, so it knows all columns; another process may have no batch.
    shapes = engine.share({name: tuple(values[0].shape[1:]) for name, values in parts.items()})
    table = {}
    for name, shape in shapes.items():
        whole = torch.zeros(count, *shape, device=engine.device)
        if rows:
            whole[torch.from_numpy(np.concatenate(rows)).to(engine.device)] = torch.cat(parts[name])
        table[name] = engine.sum({name: whole})[name].cpu().numpy()
    return table
