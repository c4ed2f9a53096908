"""The order of an epoch as arithmetic: position -> chunk, with no state to save.

Slots are the chunks in blocks of consecutive ones, the blocks permuted. Lanes own contiguous runs of slots
and take turns: position p belongs to lane ``p % lanes``. Inside a lane, windows of some blocks are permuted
again. A rank thus reads whole blocks (large sequential reads) while a batch mixes all lanes.
"""

import numpy as np

_MASK = 2**64 - 1
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def splitmix64(x: np.ndarray | int) -> np.ndarray:
    """Steele, Lea and Flood's SplitMix64 finaliser of uint64 values: a bijection, so it makes no ties."""
    z = np.asarray(x, np.uint64).reshape(np.shape(x)) if isinstance(x, np.ndarray) else np.uint64(x & _MASK)
    with np.errstate(over="ignore"):
        z = z + _GOLDEN
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))


def mix(*words: int) -> int:
    """One 64-bit key from several integers, dependent on their order."""
    key = 0
    for word in words:
        key = int(splitmix64(key ^ int(splitmix64(word))))
    return key


def keyed_order(count: int, key: int) -> np.ndarray:
    """A permutation of ``range(count)`` (int64) that depends on the key alone: no ties, any platform."""
    return np.argsort(splitmix64(np.arange(count, dtype=np.uint64) ^ np.uint64(key)), kind="stable")


class EpochOrder:
    """A bijection on ``[0, count)`` for each (seed, epoch).

    A set that fits into one window of every lane (65,536 chunks by default) is shuffled as a whole.
    """

    def __init__(self, count: int, seed: int, epoch: int, block: int = 64, lanes: int = 64, window: int = 16):
        if count < 1:
            raise ValueError(f"an epoch needs at least one chunk, not {count}")
        if count < lanes * block * window:
            block, lanes, window = 1, 1, count
        self.count, self.block, self.lanes = count, block, lanes
        self._places = block * window
        self._key = mix(seed, epoch)
        blocks = -(-count // block)
        if blocks == window:
            self._blocks = np.arange(blocks)  # the one window permutes everything already
        else:
            self._blocks = keyed_order(blocks, mix(self._key, 1))
        # The last block may be short: slots behind it are shifted as if it were whole.
        self._missing = blocks * block - count
        self._short_ends = (int(np.flatnonzero(self._blocks == blocks - 1)[0]) + 1) * block - self._missing
        lane = np.arange(lanes)
        self._length = count // lanes + (lane < count % lanes)
        self._offset = lane * (count // lanes) + np.minimum(lane, count % lanes)
        self._windows: dict[int, np.ndarray] = {}

    def at(self, positions: np.ndarray) -> np.ndarray:
        """Chunks at the given positions of the epoch, int64 [n] -> int64 [n]."""
        positions = np.asarray(positions, np.int64)
        if positions.size and not (positions.min() >= 0 and positions.max() < self.count):
            raise IndexError(f"positions must lie in [0, {self.count})")
        place, lane = np.divmod(positions, self.lanes)
        window, inside = np.divmod(place, self._places)
        slot = np.empty_like(positions)
        for w in np.unique(window):
            here = window == w
            permuted = self._window(int(w))[lane[here], inside[here]]
            slot[here] = self._offset[lane[here]] + w * self._places + permuted
        slot += np.where(slot >= self._short_ends, self._missing, 0)
        return self._blocks[slot // self.block] * self.block + slot % self.block

    def _window(self, w: int) -> np.ndarray:
        """Permutations of window ``w`` in all lanes, int64 [lanes, places]."""
        if w not in self._windows:
            if len(self._windows) == 2:  # batches move forward: the one before the last is done with
                del self._windows[min(self._windows)]
            size = np.clip(self._length - w * self._places, 0, self._places)
            place = np.arange(size.max(), dtype=np.uint64)
            keys = np.array([mix(self._key, 2, lane, w) for lane in range(self.lanes)], np.uint64)
            draw = splitmix64(place ^ keys[:, None])
            draw[place >= size[:, None]] = _MASK  # lanes differ by one place: the missing one sorts last
            self._windows[w] = np.argsort(draw, axis=1, kind="stable")
        return self._windows[w]
