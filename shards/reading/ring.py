"""Reused buffers between threads that fill them and the one that uses them, in order.

Three counters say everything. ``claimed``: items that some filler has begun; ``taken``: items that the user has
been given; ``returned``: items that the user is done with, all but the last when it asks for the next. Item n
lives in slot ``n % slots``, so a filler may begin it when item ``n - slots`` has been returned. Fillers may finish
in any order.
"""

import threading
import time
from typing import Any

POLL_S = 0.5  # how often a waiting thread looks whether it is still wanted, should a wake-up be lost


class Ring:
    """``slots`` numbered buffers; see above. Every method may be called from any thread."""

    def __init__(self, slots: int):
        self.slots = slots
        self._claimed = self._taken = self._returned = 0
        self._items: dict[int, Any] = {}
        self._closed = False
        self._changed = threading.Condition()

    def claim(self) -> int | None:
        """The number of the next item to make, when its slot is free; None when the ring is closed."""
        with self._changed:
            while not self._closed and self._claimed - self._returned >= self.slots:
                self._changed.wait(POLL_S)
            if self._closed:
                return None
            self._claimed += 1
            return self._claimed - 1

    def put(self, number: int, item: Any) -> None:
        """Item ``number`` is ready; an exception is raised where the user takes it."""
        with self._changed:
            if not self._taken <= number < self._claimed or number in self._items:
                raise ValueError(f"item {number} was not asked for")
            self._items[number] = item
            self._changed.notify_all()

    def take(self, timeout_s: float) -> Any:
        """The next item; the one taken before is given back.

        Raises TimeoutError when none comes in time, StopIteration when the ring is closed.
        """
        end = time.monotonic() + timeout_s
        with self._changed:
            self._returned = self._taken
            self._changed.notify_all()
            while not self._closed and self._taken not in self._items:
                left = end - time.monotonic()
                if left <= 0:
                    raise TimeoutError
                self._changed.wait(min(left, POLL_S))
            if self._closed:
                raise StopIteration
            self._taken += 1
            return self._items.pop(self._taken - 1)

    def close(self) -> None:
        """End all waiting: ``claim`` returns None, ``take`` raises StopIteration."""
        with self._changed:
            self._closed = True
            self._items.clear()
            self._changed.notify_all()
