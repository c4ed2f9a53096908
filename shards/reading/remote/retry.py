"""Calling a server again while its failures may pass: back-off with jitter, within a total time limit."""

import logging
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import tenacity

from shards.errors import DataError
from shards.reading.remote.failures import MissingError, Place, causes, in_words, is_missing, is_transient, remedy
from shards.text import printable

T = TypeVar("T")

SLOWEST = 50_000  # bytes per second; a request that is slower than this has failed
WARN_EVERY_S = 60.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RetryPolicy:
    """How long to wait for a server, in seconds."""

    answer_s: float = 30.0  # without a connection, or without a single byte
    total_s: float = 300.0  # for one read with all its retries
    first_pause_s: float = 0.2  # before the first retry: a random time up to this, then up to twice this, ...
    longest_pause_s: float = 20.0


RETRY_POLICY = RetryPolicy()


class Retries:
    """Makes the requests to one place. Any number of threads may use it."""

    def __init__(self, place: Place, patience: RetryPolicy):
        self.place, self.patience = place, patience
        self.count = 0  # failed requests that were tried again
        self._closing = threading.Event()
        self._lock = threading.Lock()
        self._warned = -WARN_EVERY_S

    def close(self) -> None:
        """No more retries, and an end to the pauses before them."""
        self._closing.set()

    def call(self, what: str, request: Callable[[float], T], size: int = 0) -> T:
        """What ``request`` returns.

        It is given the seconds it may take, enough for ``size`` bytes on a slow line. Raises DataError, naming
        ``what``, when it fails for good or for too long; MissingError when there is no such file.
        """
        patience, begin, failures = self.patience, time.monotonic(), 0
        cut_short = False
        earlier: BaseException | None = None

        def attempt() -> T:
            nonlocal cut_short
            left, whole = begin + patience.total_s - time.monotonic(), patience.answer_s + size / SLOWEST
            cut_short = left < whole
            return request(min(whole, max(left, 0.001)))

        def before_pause(state: tenacity.RetryCallState) -> None:
            nonlocal failures, earlier
            failures, earlier = failures + 1, _error(state)
            self._note(what, earlier)

        attempts = tenacity.Retrying(
            retry=tenacity.retry_if_exception(is_transient),
            stop=tenacity.stop_before_delay(patience.total_s) | tenacity.stop_when_event_set(self._closing),
            wait=self._pause,
            sleep=tenacity.sleep_using_event(self._closing),
            before_sleep=before_pause,
            reraise=True,
        )
        try:
            return attempts(attempt)
        except DataError:
            raise
        except Exception as last:
            # The last try may have had no time for an answer; then the one before it says more.
            error = earlier if cut_short and isinstance(earlier, Exception) else last
            reason = self._words(error)
            if self._closing.is_set():
                raise DataError(f"{what}: reading was stopped ({reason})") from None
            if is_transient(error):
                reason += f", after {failures + 1} tries in {time.monotonic() - begin:.0f} s" if failures else ""
            kind = MissingError if is_missing(error) else DataError
            raise kind(f"{what}: {reason}. {remedy(error, self.place.protocol)}".rstrip(". ")) from None

    def _pause(self, state: tenacity.RetryCallState) -> float:
        """Seconds, drawn so that many ranks do not come back together; at least what the server asks for."""
        longest = self.patience.longest_pause_s
        most = min(longest, self.patience.first_pause_s * 2.0 ** min(state.attempt_number - 1, 60))
        asked = max(getattr(error, "retry_after_s", 0) for error in causes(_error(state)))
        return max(random.uniform(0, most), min(asked, longest))

    def _note(self, what: str, error: BaseException) -> None:
        with self._lock:
            self.count += 1
            now = time.monotonic()
            if now - self._warned < WARN_EVERY_S:
                return
            self._warned = now
        words = self._words(error)
        _log.warning("%s: %s; trying again (retries so far: %d)", printable(what), words, self.count)

    def _words(self, error: BaseException) -> str:
        return self.place.cleaned(in_words(error, self.patience.answer_s))


def _error(state: tenacity.RetryCallState) -> BaseException:
    """What the last try of a call failed with."""
    error = state.outcome.exception() if state.outcome else None
    assert error is not None, "asked only after a failure"
    return error
