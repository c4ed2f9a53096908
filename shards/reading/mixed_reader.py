"""Gathers the steps of a mixture from the readers of its data sets."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from shards.chunk import ChunkFormat
from shards.reading.arena import Arena, RowReader, arena_slots
from shards.reading.mixed_schedule import MixedSchedule, MixedStep
from shards.reading.schedule import Cursor, Step
from shards.reading.sources.records import Records


class MixedReader:
    """Blocks of each data set read ahead where there is memory for them, single records where there is not.

    Args:
        schedule: The steps.
        cursor: Where they begin.
        records: Of all data sets, numbered through.
        shape: Sizes of the records.
        blocks: Blocks that there is room for.
    """

    def __init__(self, schedule: MixedSchedule, cursor: Cursor, records: Records, shape: ChunkFormat, blocks: int):
        self._schedule = schedule
        self._rows = RowReader(records)
        self._arenas: list[Arena | None] = []
        rooms = shared_room(schedule, blocks)
        for one, (first, count) in enumerate(zip(schedule.firsts.tolist(), schedule.counts, strict=True)):
            order = schedule.order_of(one, 0)
            slots = arena_slots(order, schedule.most(one), schedule.world, rooms[one])
            windows = schedule.windows(one, cursor)
            shifted = ShiftedRecords(records, first)
            self._arenas.append(Arena(shifted, count, order.block, shape.stride, slots, windows) if slots else None)

    @property
    def arenas(self) -> list[Arena | None]:
        """For each data set its blocks; None where its records are read one by one."""
        return self._arenas

    def gather(self, step: Step, out: np.ndarray) -> None:
        """The records of a step, in its order, into uint8 [n, stride]."""
        assert isinstance(step, MixedStep)
        taken = self._schedule.mixture.taken(step.cursor.consumed)
        single = ~step.own
        keys = np.stack([step.sets, step.epochs, step.own])
        ends = np.flatnonzero((keys[:, 1:] != keys[:, :-1]).any(axis=0)) + 1
        for begin, end in pairwise([0, *ends.tolist(), len(step.sets)]):
            one, epoch = int(step.sets[begin]), int(step.epochs[begin])
            arena, here = self._arenas[one], slice(begin, end)
            if not step.own[begin]:
                continue
            if arena is None:
                single[here] = True
                continue
            cursor = self._cursor(one, epoch, taken)
            arena.gather(Step(step.rows[here], step.places[here], cursor, step.next_cursor), out[here])
        places = np.flatnonzero(single)
        if len(places):
            self._rows.read(step.chunks[places], out, places)

    def close(self) -> None:
        """End the threads."""
        self._rows.close()
        for arena in filter(None, self._arenas):
            arena.close()

    def _cursor(self, one: int, epoch: int, taken: list[int]) -> Cursor:
        """The first position that the step takes from an epoch of a data set, over all ranks."""
        schedule = self._schedule
        begin = taken[schedule.numbers[one]]
        return Cursor(epoch, max(0, begin - epoch * schedule.counts[one]))


class ShiftedRecords:
    """Records of one data set among those of all."""

    def __init__(self, records: Records, first: int):
        self._records, self._first = records, first

    def read(self, first: int, out: np.ndarray) -> None:
        """See ``Records``."""
        self._records.read(self._first + first, out)

    def close(self) -> None:
        """The records stay open: others read them too."""


def shared_room(schedule: MixedSchedule, blocks: int) -> list[int]:
    """Blocks for each data set, in proportion to what it needs; sets that are small need all of their blocks."""
    needed = [
        schedule.order_of(one, 0).resident_blocks(schedule.most(one), schedule.world)
        for one in range(len(schedule.counts))
    ]
    return shares_of_room(needed, blocks)


def shares_of_room(needed: Sequence[int], blocks: int) -> list[int]:
    """Room for as many readers as can have what they need, the ones with the smallest need first."""
    room = [0] * len(needed)
    left = blocks
    for one in sorted(range(len(needed)), key=lambda k: needed[k]):
        if needed[one] <= left:
            room[one] = needed[one]
            left -= needed[one]
    served = sum(room)
    return [size + left * size // served if served else 0 for size in room]
