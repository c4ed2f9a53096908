import random
import threading
import time

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from shards.reading.ring import Ring


class RingMachine(RuleBasedStateMachine):
    """Every order of claiming, putting and taking, in one thread, against a plain list of what must be true."""

    @initialize(slots=st.integers(1, 4))
    def start(self, slots):
        self.ring, self.slots = Ring(slots), slots
        self.claimed = self.taken = self.returned = 0
        self.open, self.ready = set(), set()

    @precondition(lambda self: self.claimed - self.returned < self.slots)
    @rule()
    def claim(self):
        assert self.ring.claim() == self.claimed
        self.open.add(self.claimed)
        self.claimed += 1

    @precondition(lambda self: self.open)
    @rule(data=st.data())
    def put(self, data):
        number = data.draw(st.sampled_from(sorted(self.open)))
        self.ring.put(number, f"item {number}")
        self.open.remove(number)
        self.ready.add(number)

    @rule(number=st.integers(-1, 50))
    def put_what_nobody_asked_for(self, number):
        if number not in self.open:
            with pytest.raises(ValueError, match=f"item {number} was not asked for"):
                self.ring.put(number, None)

    @precondition(lambda self: self.taken in self.ready)
    @rule()
    def take(self):
        assert self.ring.take(1) == f"item {self.taken}"
        self.returned = self.taken
        self.ready.remove(self.taken)
        self.taken += 1

    @precondition(lambda self: self.taken not in self.ready)
    @rule()
    def take_too_early(self):
        with pytest.raises(TimeoutError):
            self.ring.take(0)
        self.returned = self.taken  # it asked for the next one, so it is done with the last

    @invariant()
    def no_slot_is_used_twice(self):
        in_use = self.open | self.ready | ({self.taken - 1} if self.taken > self.returned else set())
        assert len({number % self.slots for number in in_use}) == len(in_use)


RingMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestRingMachine = RingMachine.TestCase


@pytest.mark.parametrize("fillers", [1, 2, 5])
@pytest.mark.parametrize("slots", [1, 2, 4])
def test_threads_never_lose_or_mix_items(fillers, slots):
    # Each filler scribbles over its slot while it works: a slot given out too early shows as a torn item.
    rng = random.Random(slots * 10 + fillers)
    ring, memory, count = Ring(slots), [None] * slots, 3000
    pauses = [rng.random() < 0.02 for _ in range(count + slots)]

    def fill():
        while (number := ring.claim()) is not None:
            memory[number % slots] = "half"
            if pauses[number % len(pauses)]:
                time.sleep(0.0005)
            memory[number % slots] = number
            ring.put(number, number)

    threads = [threading.Thread(target=fill, daemon=True) for _ in range(fillers)]
    for thread in threads:
        thread.start()
    for number in range(count):
        assert ring.take(20) == number  # the watchdog: a lost wake-up ends the test by name
        assert memory[number % slots] == number
    ring.close()
    for thread in threads:
        thread.join(120)
        assert not thread.is_alive()


def test_closing_wakes_everybody():
    ring = Ring(1)
    assert ring.claim() == 0
    results = []

    def waiting_filler():
        results.append(ring.claim())

    def waiting_user():
        try:
            ring.take(60)
        except StopIteration:
            results.append("stopped")

    threads = [threading.Thread(target=target, daemon=True) for target in (waiting_filler, waiting_user)]
    for thread in threads:
        thread.start()
    ring.close()
    for thread in threads:
        thread.join(120)
    assert sorted(results, key=str) == [None, "stopped"]
    with pytest.raises(StopIteration):
        ring.take(1)
    ring.put(0, "late")  # a filler that was reading when the ring was closed


def test_errors_come_where_their_item_would():
    ring = Ring(2)
    first, second = ring.claim(), ring.claim()
    ring.put(second, "item")
    ring.put(first, failure := OSError("gone"))
    assert ring.take(1) is failure
    assert ring.take(1) == "item"
