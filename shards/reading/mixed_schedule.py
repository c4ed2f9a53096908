"""Which chunks each step takes from several data sets in fixed shares."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from shards.mixing.mixture import Mixture, seed_of
from shards.reading.order import EpochOrder, Window
from shards.reading.schedule import PIECE, Cursor, Step

EPOCHS = 16  # of a small set that are computed together: the first batch after them is not to wait


@dataclass(frozen=True)
class MixedStep(Step):
    """One rank's share of a step of a mixture. Chunks are numbered through all data sets of the split.

    Rows are ordered by set, epoch and ``own``, and then ascend.
    """

    sets: np.ndarray  # int64 [n], data sets of the split
    epochs: np.ndarray  # int64 [n], of these sets
    places: np.ndarray  # int64 [n], chunks within the set
    own: np.ndarray  # bool [n], rows that this rank reads ahead; few others come from blocks of other ranks


@dataclass(frozen=True)
class MixedSchedule:
    """The endless steps of one rank over several data sets.

    A step takes the next ``batch`` places of the mixture. Each set is read in its own order and begins its next epoch
    alone, without a chunk left out. The cursor counts the chunks of all sets since the mixture began; its epoch is 0.

    A rank takes the chunks whose position in their epoch is its number modulo ``world``, as in ``Schedule``, so that
    it reads whole blocks; and so many rows as there: what is too many for one rank goes to another.

    Attributes:
        counts: Chunks of the split's data sets.
        numbers: For each of them its place in ``mixture.sets``.
        mixture: The shares.
        batch, seed, rank, world, order: As of ``Schedule``.
    """

    counts: tuple[int, ...]
    numbers: tuple[int, ...]
    mixture: Mixture
    batch: int
    seed: int
    rank: int = 0
    world: int = 1
    order: Callable[[int, int, int], EpochOrder] = EpochOrder

    @classmethod
    def of(
        cls,
        mixture: Mixture,
        sets: Sequence[tuple[str, int]],
        batch: int,
        seed: int,
        rank: int = 0,
        world: int = 1,
        order: Callable[[int, int, int], EpochOrder] = EpochOrder,
    ) -> "MixedSchedule":
        """The schedule for data sets given as fingerprint and number of chunks.

        Raises ValueError where the mixture takes from other sets.
        """
        known = {one.fingerprint: place for place, one in enumerate(mixture.sets)}
        taken = {one.fingerprint for one in mixture.sets if one.parts}
        if taken != {name for name, _ in sets}:
            raise ValueError("the mixture is of other data sets")
        counts, numbers = tuple(count for _, count in sets), tuple(known[name] for name, _ in sets)
        return cls(counts, numbers, mixture, batch, seed, rank, world, order)

    def steps(self, cursor: Cursor) -> Iterator[MixedStep]:
        """All steps from a cursor on."""
        piece = 1  # the first batch is not to wait for the others
        while True:
            yield from self._steps(cursor, piece)
            cursor = Cursor(0, cursor.consumed + piece * self.batch)
            piece = max(1, min(PIECE * self.world, EPOCHS * self._shortest) // self.batch)

    @property
    def _shortest(self) -> int:
        """Places of the mixture in which the set that begins again most often does so once."""
        sets = self.mixture.sets
        found = (
            count * self.mixture.period // sets[number].parts
            for count, number in zip(self.counts, self.numbers, strict=True)
        )
        return min(found)

    def after(self, cursor: Cursor, steps: int) -> Cursor:
        """The cursor some steps later."""
        return Cursor(0, cursor.consumed + steps * self.batch)

    @property
    def firsts(self) -> np.ndarray:
        """The first chunk of each data set of the split, int64."""
        return np.cumsum([0, *self.counts[:-1]], dtype=np.int64)

    def order_of(self, one: int, epoch: int) -> EpochOrder:
        """The order of a data set of the split."""
        seed = seed_of(self.seed, self.mixture.sets[self.numbers[one]].number)
        return self.order(self.counts[one], seed, epoch)

    def windows(self, one: int, cursor: Cursor) -> Iterator[tuple[int, Window]]:
        """Epochs and windows of blocks that this rank needs of a data set, in the order of their first use."""
        taken = self.mixture.taken(cursor.consumed)[self.numbers[one]]
        epoch, position = divmod(taken, self.counts[one])
        while True:
            for window in self.order_of(one, epoch).windows(position, self.rank, self.world):
                yield epoch, window
            epoch, position = epoch + 1, 0

    def most(self, one: int) -> int:
        """The most chunks of a data set in a step."""
        parts = self.mixture.sets[self.numbers[one]].parts
        return min(self.batch, self.batch * parts // self.mixture.period + len(self.counts) + 1)

    def _steps(self, cursor: Cursor, count: int) -> Iterator[MixedStep]:
        begin, batch = cursor.consumed, self.batch
        found, taken = self.mixture.at(np.arange(begin, begin + count * batch, dtype=np.int64))
        inverse = np.zeros(len(self.mixture.sets), np.int64)
        inverse[list(self.numbers)] = np.arange(len(self.numbers))
        sets = inverse[found]
        epochs, positions = np.divmod(taken, np.array(self.counts, np.int64)[sets])
        places = self._places(sets, epochs, positions)
        chunks = places + self.firsts[sets]
        step = np.arange(count * batch) // batch
        # Rows that one reader gathers stand together, so that it writes them where they belong.
        if self.world == 1:
            order = np.argsort(step * len(self.counts) + sets, kind="stable")  # epochs of a set ascend
            own, bounds = np.ones(count * batch, bool), np.arange(count + 1) * batch
        else:
            mine, own = share_of_rank(positions % self.world, self.rank, self.world, batch)
            order = np.lexsort((mine, ~own, epochs[mine], sets[mine], step[mine]))
            own, order = own[order], mine[order]
            bounds = np.searchsorted(step[order], np.arange(count + 1))
        rows, chunks, sets, epochs, places = (
            values[order] for values in (np.arange(count * batch) % batch, chunks, sets, epochs, places)
        )
        for k in range(count):
            here = slice(bounds[k], bounds[k + 1])
            before, after = (Cursor(0, begin + (k + more) * batch) for more in (0, 1))
            yield MixedStep(rows[here], chunks[here], before, after, sets[here], epochs[here], places[here], own[here])

    def _places(self, sets: np.ndarray, epochs: np.ndarray, positions: np.ndarray) -> np.ndarray:
        """Chunks within their sets, of places in the order of the mixture: the epochs of each set ascend."""
        places = np.empty_like(positions)
        for one in range(len(self.counts)):
            mine = np.flatnonzero(sets == one)
            for rows in np.split(mine, np.flatnonzero(np.diff(epochs[mine])) + 1):
                if len(rows):
                    places[rows] = self.order_of(one, int(epochs[rows[0]])).at(positions[rows])
        return places


def share_of_rank(classes: np.ndarray, rank: int, world: int, batch: int) -> tuple[np.ndarray, np.ndarray]:
    """The rows that a rank takes of each step, ascending, and which of them are of its own class.

    Rank r gets ``len(range(r, batch, world))`` rows of a step: the first of its class, and where these are too few,
    some that are too many for others, so that every row has one rank.

    Args:
        classes: int64 [steps * batch], the rank that would like each row.
        rank, world: This process, and all.
        batch: Rows of a step.
    """
    quotas = (batch - np.arange(world) + world - 1) // world
    rows, own = [], []
    for first in range(0, len(classes), batch):
        wanted = classes[first : first + batch]
        order = np.argsort(wanted, kind="stable")
        sizes = np.bincount(wanted, minlength=world)
        place = np.arange(batch) - np.repeat(np.cumsum(sizes) - sizes, sizes)  # in its class
        surplus = order[place >= quotas[wanted[order]]]
        lacking = np.maximum(quotas - sizes, 0)
        begin = int(lacking[:rank].sum())
        mine = order[(wanted[order] == rank) & (place < quotas[rank])]
        taken = np.sort(np.concatenate([mine, surplus[begin : begin + int(lacking[rank])]]))
        rows.append(first + taken)
        own.append(wanted[taken] == rank)
    return np.concatenate(rows), np.concatenate(own)
