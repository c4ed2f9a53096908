"""Scenarios that run beside each other: jobs mostly wait, and a cluster has room for many."""

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

AT_ONCE = 5
# Seconds of each scenario; pytest's own durations tell how long a test waited for it.
took: dict[str, float] = {}


def beside(scenario: Callable) -> Callable:
    """Makes a test of a function that takes a Desk. The first test to run starts all that were selected.

    Those whose names begin with `test_time` wait for a clock, not for a processor, and are started first.
    """

    @pytest.mark.timeout(900)
    def test(results: Callable[[Callable], None]) -> None:
        results(scenario)

    test.scenario = scenario
    test.__doc__ = scenario.__doc__
    return test


def start_all(items: list, desk: object) -> tuple[ThreadPoolExecutor, dict[Callable, Future]]:
    """Starts the scenarios of the selected tests, a few at a time."""
    pool = ThreadPoolExecutor(AT_ONCE)
    wanted = [item.function.scenario for item in items if hasattr(getattr(item, "function", None), "scenario")]
    wanted.sort(key=lambda scenario: not scenario.__name__.startswith("test_time"))

    def timed(scenario: Callable) -> None:
        began = time.monotonic()
        try:
            scenario(desk)
        finally:
            took[scenario.__name__] = time.monotonic() - began

    return pool, {scenario: pool.submit(timed, scenario) for scenario in wanted}
