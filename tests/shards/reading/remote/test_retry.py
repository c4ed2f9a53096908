from itertools import chain, repeat

from shards.reading.remote.failures import Place, StatusError, is_transient
from shards.reading.remote.retry import Retries, RetryPolicy


def test_what_a_library_repeats_of_a_url_is_hidden():
    place = Place("https://reader:pass%40word@host/folder/?X-Signature=abc123signature#part")
    assert place.shown == "https://host/folder/"
    said = "bad\nreader:pass%40word in X-Signature=abc123signature of https://other:word@host/x?key=1 and /x?token=2"
    assert place.cleaned(said) == "bad ... in ... of https://host/x and /x"


def test_what_may_pass():
    for error in (StatusError(503), StatusError(429), ConnectionResetError(), TimeoutError(), OSError(5, "I/O")):
        assert is_transient(error)
        wrapped = RuntimeError("of some library")
        wrapped.__cause__ = error
        assert is_transient(wrapped)
    for error in (StatusError(404), StatusError(501), PermissionError(), FileNotFoundError(), ValueError(), KeyError()):
        assert not is_transient(error)
    assert not is_transient(KeyboardInterrupt())


def test_pauses_grow_up_to_a_limit_and_heed_the_server():
    pauses = []
    retries = Retries(Place("http://host"), RetryPolicy(1, 1000, first_pause_s=1, longest_pause_s=8))
    retries._closing.wait = lambda timeout: pauses.append(timeout) is None
    answers = chain(
        [StatusError(503)] * 40, [StatusError(503, retry_after_s=7.5)], [StatusError(503, 99)], repeat(None)
    )

    def request(_: float) -> str:
        if error := next(answers):
            raise error
        return "done"

    assert retries.call("it", request) == "done"
    assert all(pause <= min(8, 2**i) for i, pause in enumerate(pauses))
    assert max(pauses[4:40]) > 4
    assert len(set(pauses[:40])) == 40  # drawn, so that ranks do not come back together
    assert 7.5 <= pauses[40] <= pauses[41] == 8
    assert retries.count == 42
