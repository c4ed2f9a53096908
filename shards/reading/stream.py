"""Endless batches over the epochs of a split, the same for any number of ranks, from any cursor on."""

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from shards.chunk import HEADERS
from shards.errors import DataError
from shards.mixing.mixture import Mixture
from shards.reading.arena import Arena, RowReader, arena_slots
from shards.reading.damage import Damage, DamageReplacer
from shards.reading.mixed_reader import MixedReader
from shards.reading.mixed_schedule import MixedSchedule
from shards.reading.order import EpochOrder
from shards.reading.ring import Ring
from shards.reading.schedule import Cursor, Schedule, Step
from shards.reading.sources.memory import allocate, available_memory
from shards.reading.split import Split

FILLERS = 2  # threads that copy from mapped memory; one core does 300,000 chunks a second
BEGINNING = Cursor()


@dataclass(frozen=True)
class Batch:
    """One rank's share of a step. Its audio may be used until the next batch is asked for: the memory is reused.

    Attributes:
        records: int16 [n, stride / 2], tar records with the audio in them.
        samples: Samples of a chunk, in each channel.
        rows: int64 [n], which rows of the global batch these are.
        chunks: int64 [n], chunk numbers in the split.
        cursor: Before this step.
        next_cursor: After it: what to save once the step is done.
        channels: Of a chunk; their samples are interleaved, see ``by_channel``.
    """

    records: Tensor
    samples: int
    rows: Tensor
    chunks: np.ndarray
    cursor: Cursor
    next_cursor: Cursor
    channels: int = 1

    @property
    def audio(self) -> Tensor:
        """int16 [n, samples * channels], a view."""
        return self.records[:, self._place]

    @property
    def _place(self) -> slice:
        return slice(HEADERS // 2, HEADERS // 2 + self.samples * self.channels)

    def on(self, device: torch.device, part: slice = slice(None)) -> Tensor:
        """The audio of some rows on a device, int16 [n, samples * channels].

        Whole records go there, as a copy of one piece, and are cut there.
        """
        moved = self.records[part].to(device, non_blocking=True)
        return moved[:, self._place]


class BatchStream:
    """Iterates for ever over the global batches of a split, giving this rank's rows of each; see ``Schedule``.

    Threads read ahead into a ring of reused buffers: from a memory map when the split fits into memory; else from
    an area of blocks, read with large reads shortly before they are needed; else, when there is no room for that
    either, record by record. Damaged chunks are replaced, see ``DamageReplacer``. Use it as a context manager.

    Args:
        split: Where the chunks are.
        batch: Chunks of a step, over all ranks.
        seed: The seed of the order.
        rank: This process.
        world: All processes.
        cursor: Where to begin.
        prefetch: Batches read ahead.
        timeout_s: How long to wait for a batch before giving up.
        pin_memory: Whether the buffers are for a GPU.
        memory: Bytes that the data may take on this node; None for half of what is available.
        share: Processes on this node that read, among which ``memory`` is shared.
        damage_limit: The share of the split's chunks that may be damaged.
        order: The order of an epoch.
        mixture: The shares of several data sets, see ``MixedSchedule``; None takes all chunks alike.

    Raises DataError for impossible sizes, and from the iterator for damaged or unreachable data.
    """

    def __init__(
        self,
        split: Split,
        batch: int,
        seed: int,
        rank: int = 0,
        world: int = 1,
        cursor: Cursor = BEGINNING,
        prefetch: int = 3,
        timeout_s: float = 300.0,
        pin_memory: bool = False,
        memory: int | None = None,
        share: int = 1,
        damage_limit: float = 0.001,
        order: Callable[[int, int, int], EpochOrder] = EpochOrder,
        mixture: Mixture | None = None,
    ):
        _check(split, batch, rank, world, cursor)
        schedule = schedule_of(split, batch, seed, rank, world, order, mixture)
        shape = split.manifest.chunk_format
        self._split, self._timeout, self._pin = split, timeout_s, pin_memory
        self._shape = shape
        self._pending: dict[int, Step] = {}
        self._taken = -1  # number of the batch that the user has
        self._fences: dict[int, torch.cuda.Event] = {}  # by number: when copies from that batch's memory are done
        slots = max(prefetch, 1) + 1  # and the one that the user has
        rows = -(-batch // world)
        self._buffers = allocate(slots * rows * shape.stride, pin_memory).reshape(slots, rows, shape.stride)
        self._ring = Ring(slots)
        memory = available_memory() // 2 if memory is None else memory
        self.reader, fillers = self._make_reader(schedule, cursor, memory, share)
        once = self.reader is None  # mapped memory stays as it was read
        self._replacer = DamageReplacer(
            split.damaged, len(split), split.place, self._read_one, damage_limit, once, split.bounds
        )
        self._steps = schedule.steps(cursor)
        self._claiming = threading.Lock()
        self._threads = [threading.Thread(target=self._fill, name=f"batches-{k}", daemon=True) for k in range(fillers)]
        for thread in self._threads:
            thread.start()

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        if self._pin and self._taken >= 0:
            # Copies to the GPU may still be waiting behind its work when the memory goes back to the ring.
            self._fences[self._taken] = torch.cuda.Event()
            self._fences[self._taken].record()
            self._fences.pop(self._taken - self._ring.slots, None)  # what filled the slot since then has waited for it
        try:
            item = self._ring.take(self._timeout)
            self._taken += 1
        except TimeoutError:
            waiting = self.waiting_for()
            self.close()
            raise DataError(
                f"no batch of split {self._split.name!r} came in {self._timeout:g} s, reading {waiting}: "
                "is the disk or the network there?"
            ) from None
        if isinstance(item, BaseException):
            self.close()
            raise item
        return item

    def keep_pace(self) -> None:
        """Waits for a GPU that is far behind, so that the wait for the next batch is a wait for data alone.

        Without it the host runs ahead until no buffer is free, and would wait for one in the place where it waits for
        data. The buffers of the next two batches are free afterwards, and the GPU still has work, with four buffers
        that of two batches.
        """
        if fence := self._fences.get(self._taken + 2 - self._ring.slots):
            fence.synchronize()

    def damage(self) -> list[Damage]:
        """Damaged chunks found since the last call."""
        return self._replacer.news()

    def close(self) -> None:
        """Stop reading ahead and wait for the threads, but not for ever: a dead disk may hold them."""
        self._ring.close()
        if self.reader:
            self.reader.close()
        for thread in self._threads:
            thread.join(10)

    def __enter__(self) -> "BatchStream":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _make_reader(
        self, schedule: Schedule | MixedSchedule, cursor: Cursor, memory: int, share: int
    ) -> tuple[RowReader | Arena | MixedReader | None, int]:
        """What gathers the records of a step, None for the memory map, and how many threads may use it."""
        split, stride = self._split, self._shape.stride
        if split.mapped and split.bytes <= memory:
            split.mapped.prefault()
            return None, FILLERS
        if isinstance(schedule, MixedSchedule):
            blocks = memory // share // (schedule.order_of(0, 0).block * stride)
            return MixedReader(schedule, cursor, split.records, self._shape, blocks), 1
        order = schedule.order(schedule.count, schedule.seed, 0)
        slots = arena_slots(order, schedule.batch, schedule.world, memory // share // (order.block * stride))
        if not slots:
            return RowReader(split.records), 1
        windows = schedule.windows(cursor)
        return Arena(split.records, len(split), order.block, stride, slots, windows), 1

    def _fill(self) -> None:
        number = None
        try:
            while True:
                with self._claiming:
                    number = self._ring.claim()
                    if number is None:
                        return
                    step = next(self._steps)
                    self._pending[number] = step
                self._ring.put(number, self._read(number, step))
                del self._pending[number]
        except BaseException as error:  # whatever it is, the consumer raises it
            if number is not None:
                self._ring.put(number, error)

    def _read(self, number: int, step: Step) -> Batch:
        out = self._buffers[number % self._ring.slots, : len(step.chunks)]
        if fence := self._fences.get(number - self._ring.slots):
            fence.synchronize()
        if self.reader:
            self.reader.gather(step, out)
        else:
            assert self._split.mapped is not None
            np.take(self._split.mapped.records, step.chunks, 0, out, "clip")
        chunks = self._replacer.replace(step.chunks, out)
        self._split.amplify(chunks, out)
        rows = torch.from_numpy(step.rows)
        return Batch(
            torch.from_numpy(out).view(torch.int16),
            self._shape.samples,
            rows.pin_memory() if self._pin else rows,
            chunks,
            step.cursor,
            step.next_cursor,
            self._shape.channels,
        )

    def _read_one(self, chunk: int) -> np.ndarray:
        return self._split.raw(np.array([chunk]))[0]

    def waiting_for(self) -> str:
        """The shards of the oldest batch that is being read, for people."""
        step = next(iter([*self._pending.values()]), None)
        if step is None:
            return "nothing"
        shards = sorted({self._split.place(chunk)[0] for chunk in step.chunks[:64].tolist()})
        return ", ".join(shards[:3]) + (f" and {len(shards) - 3} more shards" if len(shards) > 3 else "")


def schedule_of(
    split: Split,
    batch: int,
    seed: int,
    rank: int = 0,
    world: int = 1,
    order: Callable[[int, int, int], EpochOrder] = EpochOrder,
    mixture: Mixture | None = None,
) -> Schedule | MixedSchedule:
    """The steps of a rank over a split; see ``BatchStream`` for the arguments.

    Raises ValueError where the mixture is of other data sets than the split.
    """
    if mixture is None:
        return Schedule(len(split), batch, seed, rank, world, order)
    sets = [(one.fingerprint, one.chunks) for one in split.sets]
    return MixedSchedule.of(mixture, sets, batch, seed, rank, world, order)


def _check(split: Split, batch: int, rank: int, world: int, cursor: Cursor) -> None:
    if not 0 <= rank < world:
        raise DataError(f"rank {rank} does not exist among {world} processes")
    split.check_batch(batch, world)
    if cursor.epoch < 0 or cursor.consumed < 0:
        raise DataError(f"{cursor} is no place in an epoch: resume elsewhere")
