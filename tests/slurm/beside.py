"""Scenarios that run beside each other: jobs mostly wait, and a cluster has room for many."""

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

AT_ONCE = 6
# These wait longest, for a clock, for Slurm or for a launcher, and are started first.
LONG = (
    "test_four_jobs_that_wait_for_each_other",
    "test_time_limit",
    "test_time_is_up_without_a_warning",
    "test_dying_nodes",
    "test_hanging_rank",
    "test_crashes_without_progress",
    "test_killed_rank_and_launcher",
    "test_deepspeed_over_nodes",
)
# Seconds of each scenario; pytest's own durations tell how long a test waited for it.
took: dict[str, float] = {}


def beside(scenario: Callable) -> Callable:
    """Makes a test of a function that takes a Desk. The first test to run starts all that were selected."""

    @pytest.mark.timeout(3600)
    def test(results: Callable[[Callable], None], record_property: Callable[[str, float], None]) -> None:
        try:
            results(scenario)
        finally:
            record_property("seconds", took.get(scenario.__name__, 0.0))

    test.scenario = scenario
    test.__doc__ = scenario.__doc__
    return test


def start_all(items: list, desk: object) -> tuple[ThreadPoolExecutor, dict[Callable, Future]]:
    """Starts the scenarios of the selected tests, a few at a time."""
    pool = ThreadPoolExecutor(AT_ONCE)
    wanted = [item.function.scenario for item in items if hasattr(getattr(item, "function", None), "scenario")]
    wanted.sort(key=lambda scenario: LONG.index(scenario.__name__) if scenario.__name__ in LONG else len(LONG))

    def timed(scenario: Callable) -> None:
        began = time.monotonic()
        try:
            scenario(desk)
        finally:
            took[scenario.__name__] = time.monotonic() - began

    return pool, {scenario: pool.submit(timed, scenario) for scenario in wanted}
