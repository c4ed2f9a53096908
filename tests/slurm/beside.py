"""Scenarios that run beside each other: jobs mostly wait, and a cluster has room for many."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

AT_ONCE = 5


def beside(scenario: Callable) -> Callable:
    """Makes a test of a function that takes a Desk. The first test to run starts all that were selected."""

    @pytest.mark.timeout(900)
    def test(results: Callable[[Callable], None]) -> None:
        results(scenario)

    test.scenario = scenario
    test.__doc__ = scenario.__doc__
    return test


def start_all(items: list, desk: object) -> tuple[ThreadPoolExecutor, dict[Callable, Future]]:
    """Starts the scenarios of the selected tests, in their order, a few at a time."""
    pool = ThreadPoolExecutor(AT_ONCE)
    wanted = [item.function.scenario for item in items if hasattr(getattr(item, "function", None), "scenario")]
    return pool, {scenario: pool.submit(scenario, desk) for scenario in wanted}
