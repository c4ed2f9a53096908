"""Codes quantised latents: whole numbers [channels, frames], most of them small, louder in some channels and moments.

Each number has a table of probabilities, chosen by its expected magnitude: a blend of the magnitudes of the same and
the neighbouring channels shortly before, and of the channel's average. The tables adapt to what was coded. Channels
that change slowly are coded as differences from the frame before. All is integer arithmetic: encoder and decoder have
equal tables on every machine.
"""

from math import isqrt

import numpy as np

from audiovae.coding.range_coder import DamagedError, Decoder, Intervals

# Numbers beyond are clipped by the quantiser.
LARGEST = (1 << 24) - 1
# Symbols of a table: -MOST to MOST, and one for all others.
MOST = 15
SYMBOLS = 2 * MOST + 2
OTHER = SYMBOLS - 1
PRECISION = 16
WIDEST = (1 << PRECISION) - (SYMBOLS - 1)  # each symbol of a table has a width of 1 or more
# Fixed point of magnitudes, and tables for each doubling of the expected magnitude.
UNIT = 256
FIRST = 4  # of UNIT; expectations below share one table
TABLES = 44
LENGTH_BITS = 5  # of the number of binary digits of a number outside the table
# Counts: weight of a table's start, of a coded symbol, and the sum at which a table's counts are halved.
START, STEP, FULL = 384, 10, 1 << 14
SLOWEST = 32  # frames of the channel's average
MEMORY = 4  # binary logarithm of the frames after which it is forgotten which prediction was better
# Differences of two numbers are larger than each.
LARGEST_REST = 2 * LARGEST


def _half_octaves() -> np.ndarray:
    """Expected magnitudes, in UNIT, from which each table but the first serves: [TABLES - 1], rising by sqrt(2)."""
    return np.array([isqrt(FIRST * FIRST << i) for i in range(TABLES - 1)], np.int64)


EDGES = _half_octaves()


def shift_of(table: int) -> int:
    """Lowest binary digits of a number that are stored plainly beside the symbol of the table."""
    expected = int(EDGES[max(table - 1, 0)])
    return max(0, (expected // UNIT).bit_length() - 2)


SHIFTS = np.array([shift_of(table) for table in range(TABLES)], np.int64)


def first_counts() -> np.ndarray:
    """Counts before anything was coded: [TABLES, SYMBOLS], two-sided geometric with each table's expected magnitude."""
    counts = np.zeros((TABLES, SYMBOLS), np.int64)
    for table in range(TABLES):
        mean = max(1, int(EDGES[max(table - 1, 0)]) >> int(SHIFTS[table]))
        weights = [1 << 24]
        for _ in range(MOST + 1):
            weights.append(weights[-1] * mean // (mean + UNIT))
        # With a shift, the digits of -1 and 0 are equally near to zero.
        off = 1 if SHIFTS[table] else 0
        row = [weights[abs(v) if v >= 0 else -v - off] for v in range(-MOST, MOST + 1)]
        total = sum(row)
        counts[table, :OTHER] = [weight * START // total for weight in row]
    return counts


class Tables:
    """The state that encoder and decoder share: the counts, and the magnitudes that choose among the tables."""

    def __init__(self, channels: int) -> None:
        self.counts = first_counts()
        self.fast = np.zeros(channels, np.int64)
        self.slow = np.full(channels, 8 * UNIT, np.int64)
        self.frames = 0
        self.last = np.zeros(channels, np.int64)
        self.cost = np.zeros((2, channels), np.int64)  # recent magnitudes of numbers and of differences

    def predict(self) -> np.ndarray:
        """What is subtracted from the next frame, [channels]: the frame before where that was better lately, or 0."""
        return np.where(self.cost[1] < self.cost[0], self.last, 0)

    def choose(self) -> np.ndarray:
        """The table of each channel of the next frame, [channels]."""
        around = np.concatenate([self.fast[:1], self.fast, self.fast[-1:]])
        expected = (2 * self.fast + around[:-2] + around[2:] + 4 * self.slow) >> 3
        return np.searchsorted(EDGES, expected, side="right")

    def edges(self, chosen: np.ndarray) -> np.ndarray:
        """Edges of the symbols' intervals in 2^PRECISION for chosen tables: [channels, SYMBOLS + 1]."""
        counts = self.counts[chosen]
        widths = 1 + counts * ((1 << PRECISION) - SYMBOLS) // counts.sum(1, keepdims=True)
        edges = np.zeros((len(chosen), SYMBOLS + 1), np.int64)
        np.cumsum(widths, axis=1, out=edges[:, 1:])
        edges[:, -1] = 1 << PRECISION
        return edges

    def learn(self, chosen: np.ndarray, symbols: np.ndarray, rest: np.ndarray, numbers: np.ndarray) -> None:
        """Updates all with a coded frame: tables, symbols, numbers less their prediction, numbers; [channels] each."""
        np.add.at(self.counts, (chosen, symbols), STEP)
        full = self.counts.sum(1) > FULL
        if full.any():
            self.counts[full] >>= 1
        magnitude = np.abs(rest) * UNIT
        self.cost += (np.abs(np.stack([numbers, numbers - self.last])) * UNIT - self.cost) >> MEMORY
        self.last = numbers.copy()
        self.frames += 1
        self.fast += (magnitude - self.fast) >> 1
        self.slow += (magnitude - self.slow) // min(self.frames + 1, SLOWEST)


def intervals_of(numbers: np.ndarray) -> Intervals:
    """The intervals for `range_coder.encode`: numbers [channels, frames] int64, at most LARGEST in magnitude."""
    tables = Tables(len(numbers))
    found = Intervals()
    for whole in numbers.T:
        chosen = tables.choose()
        frame = whole - tables.predict()
        edges, shifts = tables.edges(chosen), SHIFTS[chosen]
        high = frame >> shifts
        symbols = np.where(np.abs(high) <= MOST, high + MOST, OTHER)
        rows = np.arange(len(frame))
        starts, ends = edges[rows, symbols], edges[rows, symbols + 1]
        low = frame - (high << shifts)
        for start, end, shift, rest, symbol, number in zip(
            starts.tolist(), ends.tolist(), shifts.tolist(), low.tolist(), symbols.tolist(), frame.tolist(), strict=True
        ):
            found.append(start, end - start, PRECISION)
            if symbol == OTHER:
                digits = abs(number).bit_length()
                found.append(digits, 1, LENGTH_BITS)
                found.append(abs(number), 1, digits)
                found.append(int(number < 0), 1, 1)
            elif shift:
                found.append(rest, 1, shift)
        tables.learn(chosen, symbols, frame, whole)
    return found


def read(decoder: Decoder, channels: int, frames: int) -> np.ndarray:
    """The numbers [channels, frames] int32 whose intervals are next in a decoder, four bytes of memory each.

    Raises:
        DamagedError: if there are fewer, or one is out of range.
        MemoryError: if there is no room for all.
    """
    decoder.check_room(channels * frames, WIDEST, PRECISION)
    tables = Tables(channels)
    # The system gives memory to the rows that are written: there may be fewer.
    numbers = np.empty((frames, channels), np.int32)
    for row in numbers:
        chosen = tables.choose()
        frame, symbols = np.zeros(channels, np.int64), []
        for place, (edges, shift) in enumerate(
            zip(tables.edges(chosen).tolist(), SHIFTS[chosen].tolist(), strict=True)
        ):
            symbol = decoder.symbol(edges, PRECISION)
            symbols.append(symbol)
            if symbol == OTHER:
                frame[place] = _other(decoder)
            else:
                frame[place] = (symbol - MOST << shift) + (decoder.bits(shift) if shift else 0)
        whole = frame + tables.predict()
        if np.abs(whole).max() > LARGEST:
            raise DamagedError("a number is out of range")
        tables.learn(chosen, np.array(symbols, np.int64), frame, whole)
        row[:] = whole
    return numbers.T


def _other(decoder: Decoder) -> int:
    digits = decoder.bits(LENGTH_BITS)
    number = decoder.bits(digits)
    if number > LARGEST_REST:
        raise DamagedError("a number is out of range")
    return -number if decoder.bits(1) else number
