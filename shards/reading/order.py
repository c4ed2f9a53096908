"""The order of an epoch as arithmetic: position -> chunk, with no state to save and nothing to prepare.

Blocks of consecutive chunks are permuted. Lanes own runs of the permuted blocks and take turns: position p is of
lane ``p % lanes``. Inside a lane, windows of some blocks are permuted chunk by chunk. A batch thus mixes the
blocks of all the lanes' windows, and a rank still reads whole blocks. Lanes change their windows at different
times, so that blocks are needed at an even rate. What does not fill all lanes alike comes last, as one window
over everything that is left: other chunks in each epoch.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from shards.splitmix import mix, permute, splitmix64

_BLOCKS, _TAIL, _WINDOWS = 1, 2, 3  # what the keys are for


@dataclass(frozen=True)
class Window:
    """Blocks that are needed together, for some positions between the first and the last."""

    first: int  # position
    last: int
    blocks: np.ndarray  # int64 [n]


class EpochOrder:
    """A bijection on ``[0, count)`` for each (seed, epoch).

    A set smaller than one window of every lane (32,768 chunks by default) is one window: shuffled as a whole.
    """

    def __init__(self, count: int, seed: int, epoch: int, block: int = 64, lanes: int = 64, window: int = 8):
        if count < 1:
            raise ValueError(f"an epoch needs at least one chunk, not {count}")
        self.count, self.block, self.lanes, self.window = count, block, lanes, window
        self._key = mix(seed, epoch)
        self._whole = count // block  # blocks that are not cut short by the end of the data
        self._per_lane = self._whole // lanes if count >= lanes * block * window else 0
        self._body = self._per_lane * lanes * block  # positions before the tail
        self._phase = np.arange(lanes) * window // lanes  # blocks by which a lane's first window is shorter

    def at(self, positions: np.ndarray) -> np.ndarray:
        """Chunks at the given positions of the epoch, int64 [n] -> int64 [n]."""
        positions = np.asarray(positions, np.int64)
        if positions.size and not (positions.min() >= 0 and positions.max() < self.count):
            raise IndexError(f"positions must lie in [0, {self.count})")
        body = positions < self._body
        if body.all():
            return self._chunks(self._body_slots(positions))
        slots = np.empty_like(positions)
        slots[body] = self._body_slots(positions[body])
        left = self.count - self._body
        slots[~body] = self._body + permute(positions[~body] - self._body, left, mix(self._key, _TAIL))
        return self._chunks(slots)

    def windows(self, position: int = 0, rank: int = 0, world: int = 1) -> Iterator[Window]:
        """The windows that a rank still needs from a position on, in the order of their first use.

        Rank r of ``world`` takes the positions p with ``p % world == r``: it meets one lane in
        ``gcd(lanes, world)``.
        """
        step = math.gcd(self.lanes, world)
        lanes = np.arange(rank % step, self.lanes, step)
        begin = position // (self.lanes * self.block) // self.window * self.window - self.window
        for block in range(max(0, begin), self._per_lane):
            for lane in lanes[(block == 0) | ((block + self._phase[lanes]) % self.window == 0)].tolist():
                start, stop = self._bounds(lane, (block + self._phase[lane]) // self.window)
                last = (stop * self.block - 1) * self.lanes + lane
                if last >= position:
                    runs = np.arange(start, stop) + lane * self._per_lane
                    yield Window(start * self.block * self.lanes + lane, last, self._block_numbers(runs))
        if self._body < self.count:
            runs = np.arange(self._body // self.block, -(-self.count // self.block))
            yield Window(self._body, self.count - 1, self._block_numbers(runs))

    def resident_blocks(self, batch: int = 1, world: int = 1) -> int:
        """The most blocks that a rank needs at once for ``batch`` positions in a row, over all ranks."""
        lanes = self.lanes // math.gcd(self.lanes, world)
        tail = -(-self.count // self.block) - self._body // self.block
        # Where a batch crosses from window to window it needs both, of the lanes that change there.
        borders = ((batch - 1) // self.lanes + 1) // self.block + 1
        changing = borders * min(lanes, -(-self.lanes // self.window))
        return (lanes + changing) * min(self.window, self._per_lane) + tail

    def _body_slots(self, positions: np.ndarray) -> np.ndarray:
        place, lane = np.divmod(positions, self.lanes)
        phase = self._phase[lane]
        window = (place // self.block + phase) // self.window
        start, stop = self._bounds(lane, window, phase)
        keys = splitmix64((lane * 2**40 + window).astype(np.uint64) ^ np.uint64(mix(self._key, _WINDOWS)))
        inside = permute(place - start * self.block, (stop - start) * self.block, keys)
        return (lane * self._per_lane + start) * self.block + inside

    def _bounds(self, lane, window, phase=None):
        """First block, and the one behind the last, of a lane's window, counted in the lane."""
        begin = window * self.window - (self._phase[lane] if phase is None else phase)
        return np.maximum(begin, 0), np.minimum(begin + self.window, self._per_lane)

    def _chunks(self, slots: np.ndarray) -> np.ndarray:
        run, row = np.divmod(slots, self.block)
        return self._block_numbers(run) * self.block + row

    def _block_numbers(self, runs: np.ndarray) -> np.ndarray:
        """Permuted blocks; one that is cut short stays the last, behind all lanes."""
        numbers = np.array(runs, np.int64)
        whole = numbers < self._whole
        if whole.all():
            return permute(numbers, self._whole, mix(self._key, _BLOCKS))
        numbers[whole] = permute(numbers[whole], max(self._whole, 1), mix(self._key, _BLOCKS))
        return numbers
