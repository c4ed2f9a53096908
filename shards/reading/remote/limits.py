"""Bounds on what a server may send, in bytes and in seconds."""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

T = TypeVar("T")


def within(limit_s: float, call: Callable[[], T]) -> T:
    """What ``call`` returns, run in a thread that is left behind with a TimeoutError when it takes too long."""
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(call())
        except BaseException as error:
            future.set_exception(error)

    thread = threading.Thread(target=run, name="remote-call", daemon=True)
    thread.start()
    result = future.result(limit_s)
    thread.join()
    return result


def too_long(most: int) -> str:
    """What is wrong with an answer of more than ``most`` bytes."""
    return f"it has more than {most:,} bytes, which no file of this kind has. Check the URL"
