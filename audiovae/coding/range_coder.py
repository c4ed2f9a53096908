"""A range coder with an integer state (asymmetric numeral systems, Duda 2013, "rANS").

A symbol takes an interval [start, start + width) of 2^precision, which costs precision - log2(width) bits. Encoder and
decoder use whole numbers only, so the same bytes come back as the same symbols on every machine.
"""

from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Reversible, Sequence
from math import inf, log2

import numpy as np

WORD = 32
LOW = 1 << WORD  # the state stays in [LOW, LOW << WORD) between symbols
MASK = LOW - 1
BYTES = WORD // 8


class DamagedError(ValueError):
    """Bytes that no encoder wrote."""


class Intervals:
    """Intervals of symbols, (start, width, precision) each, in nine bytes: precision is at most 32."""

    def __init__(self) -> None:
        self._starts, self._rests, self._precisions = array("I"), array("I"), array("B")

    def append(self, start: int, width: int, precision: int) -> None:
        """Adds one."""
        self._starts.append(start)
        self._rests.append(width - 1)
        self._precisions.append(precision)

    def extend(self, others: "Intervals") -> None:
        """Adds all of another sequence."""
        self._starts.extend(others._starts)
        self._rests.extend(others._rests)
        self._precisions.extend(others._precisions)

    def __len__(self) -> int:
        return len(self._starts)

    def __iter__(self) -> Iterator[tuple[int, int, int]]:
        return self._each(self._starts, self._rests, self._precisions)

    def __reversed__(self) -> Iterator[tuple[int, int, int]]:
        return self._each(reversed(self._starts), reversed(self._rests), reversed(self._precisions))

    def _each(self, *columns: Iterable[int]) -> Iterator[tuple[int, int, int]]:
        for start, rest, precision in zip(*columns, strict=True):
            yield start, rest + 1, precision


def most_symbols(size: int, widest: int, precision: int) -> float:
    """The most symbols that `size` bytes can hold if every interval is at most `widest` of 2^precision.

    A symbol multiplies the coder's state by 2^precision / width, less what rounding takes: a share of at most
    2^(precision - WORD) of the growth.
    """
    growth = ((1 << precision) / widest - 1) * (1 - 2.0 ** (precision - WORD))
    return 8 * size / log2(1 + growth) if growth else inf


def encode(intervals: Reversible[tuple[int, int, int]]) -> bytes:
    """The bytes of symbols, each (start, width, precision) with 0 <= start, 1 <= width, start + width <= 2^precision.

    The coder is a stack, so it takes the last symbol first; `Decoder` returns them in the given order.
    """
    state = LOW
    words: list[int] = []
    for start, width, precision in reversed(intervals):
        if state >= width << (2 * WORD - precision):
            words.append(state & MASK)
            state >>= WORD
        whole, rest = divmod(state, width)
        state = (whole << precision) + start + rest
    words += [state & MASK, state >> WORD]
    return b"".join(word.to_bytes(BYTES, "little") for word in reversed(words))


class Decoder:
    """Reads the symbols of `encode` in their order. All methods that take a symbol raise DamagedError at the end."""

    def __init__(self, content: bytes) -> None:
        """`content`: from `encode`; at least two words.

        Raises:
            DamagedError: if the length is impossible.
        """
        if len(content) < 2 * BYTES or len(content) % BYTES:
            raise DamagedError(f"{len(content)} bytes are no coded symbols")
        self._words = np.frombuffer(content, "<u4")
        self._next = 2
        self._state = int(self._words[0]) << WORD | int(self._words[1])

    def check_room(self, symbols: int, widest: int, precision: int) -> None:
        """Raises DamagedError if what is left cannot hold so many symbols of at most `widest` of 2^precision each."""
        size = BYTES * (2 + len(self._words) - self._next)
        if symbols > (most := most_symbols(size, widest, precision)):
            raise DamagedError(f"{symbols:,} symbols are promised, and {size:,} bytes hold {int(most):,} at most")

    def symbol(self, edges: Sequence[int], precision: int) -> int:
        """The next symbol: the i of [edges[i], edges[i + 1]); edges rise from 0 to 2^precision."""
        slot = self._state & ((1 << precision) - 1)
        found = bisect_right(edges, slot) - 1
        start = edges[found]
        self.drop(start, edges[found + 1] - start, slot, precision)
        return found

    def peek(self, precision: int) -> int:
        """The place in 2^precision whose interval is the next symbol's; `drop` then goes on."""
        return self._state & ((1 << precision) - 1)

    def bits(self, count: int) -> int:
        """The next `count` bits, 0 to 32 of them, all values being equally likely."""
        slot = self._state & ((1 << count) - 1)
        self.drop(slot, 1, slot, count)
        return slot

    def drop(self, start: int, width: int, slot: int, precision: int) -> None:
        """Takes a symbol off: its interval, and the place that `peek` found."""
        state = width * (self._state >> precision) + slot - start
        if state < LOW:
            if self._next == len(self._words):
                raise DamagedError("the coded symbols end too early")
            state = state << WORD | int(self._words[self._next])
            self._next += 1
        self._state = state

    def finish(self) -> None:
        """Raises DamagedError unless exactly all bytes were read and the state is back at its start."""
        if self._next != len(self._words) or self._state != LOW:
            raise DamagedError("the coded symbols do not end where they should")
