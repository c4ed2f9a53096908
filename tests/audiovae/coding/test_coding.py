"""The entropy coder and its tables: what goes in comes out, and the bytes never change."""

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audiovae.coding import range_coder, symbols, whole_numbers
from audiovae.coding.range_coder import DamagedError, Decoder


@st.composite
def coded_symbols(draw):
    """Tables of any widths and symbols of them: edges, symbol and precision each."""
    found = []
    for _ in range(draw(st.integers(0, 40))):
        precision = draw(st.integers(1, 32))
        inner = draw(st.sets(st.integers(1, (1 << precision) - 1), max_size=6))
        edges = [0, *sorted(inner), 1 << precision]
        found.append((edges, draw(st.integers(0, len(edges) - 2)), precision))
    return found


@settings(deadline=None, max_examples=100)
@given(coded_symbols())
def test_any_symbols_of_any_tables_come_back(found):
    content = range_coder.encode([(e[s], e[s + 1] - e[s], p) for e, s, p in found])
    decoder = Decoder(content)
    assert [decoder.symbol(edges, precision) for edges, _, precision in found] == [symbol for _, symbol, _ in found]
    decoder.finish()
    ideal = sum(p - np.log2(e[s + 1] - e[s]) for e, s, p in found)
    assert 8 * len(content) <= ideal + 64 + 0.01 * len(found)


@settings(deadline=None, max_examples=30)
@given(st.sampled_from([8, 12, 16]), st.integers(1, 40), st.booleans())
def test_bytes_hold_no_more_symbols_than_is_said(precision, other, first):
    """The most likely symbol of a table over and over: the bound holds and is near, wherever its interval begins."""
    widest = (1 << precision) - other
    start = 0 if first else other
    counts = [*range(1, 4), 100_000]
    for count in counts:
        content = range_coder.encode([(start, widest, precision)] * count)
        assert count <= range_coder.most_symbols(len(content), widest, precision)
    assert count > 0.9 * range_coder.most_symbols(len(content) - 12, widest, precision)
    assert range_coder.most_symbols(8, 1 << precision, precision) == np.inf


arrays = st.tuples(st.integers(1, 5), st.integers(0, 30), st.sampled_from([0, 1, 3, 40, 5000, whole_numbers.LARGEST]))


def numbers_of(seed, channels, frames, largest):
    rng = np.random.default_rng(seed)
    loud = rng.integers(0, 2, (channels, 1))
    return (rng.integers(-largest, largest + 1, (channels, frames)) * loud).astype(np.int64)


@settings(deadline=None, max_examples=80)
@given(arrays, st.integers(0, 999))
def test_any_whole_numbers_come_back(shape, seed):
    numbers = numbers_of(seed, *shape)
    decoder = Decoder(range_coder.encode(whole_numbers.intervals_of(numbers)))
    assert np.array_equal(whole_numbers.read(decoder, *numbers.shape), numbers)
    decoder.finish()


@settings(deadline=None, max_examples=60)
@given(
    st.integers(1, 4), st.integers(1, 3), st.integers(1, 300), st.integers(0, 30), st.integers(0, 999), st.booleans()
)
def test_any_codes_come_back(books, turns, size, frames, seed, odd):
    rng = np.random.default_rng(seed)
    use = rng.exponential(1.0, (books, turns, size)).astype(np.float32) ** 4
    if odd:
        use.flat[0], use.flat[-1] = np.nan, -1.0
    codes = rng.integers(0, size, (books, frames))
    decoder = Decoder(range_coder.encode(symbols.intervals_of(codes, use)))
    other = use[:, ::-1]  # sums of floats would depend on the order
    assert np.array_equal(symbols.read(decoder, other, frames), codes)
    decoder.finish()


@pytest.mark.parametrize("size", [1, 1 << 13])
def test_codebooks_of_any_size_fit_their_tables(size):
    use = np.zeros((2, 1, size), np.float32)
    codes = np.random.default_rng(0).integers(0, size, (2, 20))
    decoder = Decoder(range_coder.encode(symbols.intervals_of(codes, use)))
    assert np.array_equal(symbols.read(decoder, use, 20), codes)


def laplace(scale: float, frames: int = 2500, channels: int = 8) -> np.ndarray:
    return np.rint(np.random.default_rng(1).laplace(0, scale, (channels, frames))).astype(np.int64)


def entropy(numbers: np.ndarray) -> float:
    """Bits of an ideal code with one table for all."""
    share = np.unique(numbers, return_counts=True)[1] / numbers.size
    return float(-(share * np.log2(share)).sum() * numbers.size)


@pytest.mark.parametrize("scale", [0.1, 0.5, 2.0, 10.0, 300.0])
def test_numbers_cost_little_more_than_their_entropy(scale):
    numbers = laplace(scale)
    size = 8 * len(range_coder.encode(whole_numbers.intervals_of(numbers)))
    assert size < 1.04 * entropy(numbers) + 1000


def test_loud_and_quiet_channels_have_tables_of_their_own():
    numbers = np.concatenate([laplace(0.2), laplace(50.0)])
    size = 8 * len(range_coder.encode(whole_numbers.intervals_of(numbers)))
    assert size < 1.04 * (entropy(numbers[:8]) + entropy(numbers[8:])) < 0.9 * entropy(numbers)


def test_codes_cost_little_more_than_their_entropy():
    rng = np.random.default_rng(0)
    use = rng.dirichlet(np.full(256, 0.3), 4)[:, None]
    codes = np.stack([rng.choice(256, 6000, p=row) for (row,) in use])
    size = 8 * len(range_coder.encode(symbols.intervals_of(codes, use)))
    assert size < 1.03 * sum(entropy(row) for row in codes)
    unknown = 8 * len(range_coder.encode(symbols.intervals_of(codes, np.ones_like(use))))
    assert size < unknown < 1.1 * size, "tables adapt when the use in training says nothing"


@pytest.mark.parametrize("content", [b"", b"\0" * 7, b"\0" * 9, b"\xff" * 8, b"\xff" * 800, b"\0" * 16])
def test_other_bytes_are_damaged(content):
    def read():
        decoder = Decoder(content)
        whole_numbers.read(decoder, 3, 7)
        decoder.finish()

    with pytest.raises(DamagedError):
        read()


def test_a_stream_that_ends_too_early_ends_the_reading():
    """A short file that promises many numbers takes no time."""
    content = range_coder.encode(whole_numbers.intervals_of(laplace(5.0, frames=40)))
    for size in (8, len(content) // 8 * 4):
        for frames, problem in ((400, "too early"), (1 << 40, "symbols are promised")):
            with pytest.raises(DamagedError, match=problem):
                whole_numbers.read(Decoder(content[:size]), 8, frames)


def test_the_bytes_stay_the_same():
    """Files of today must decode tomorrow: any change of the tables or of the coder needs a new format."""
    numbers = numbers_of(3, 4, 60, 9)
    numbers[1, 30] = 70000
    content = range_coder.encode(whole_numbers.intervals_of(numbers))
    use = (np.arange(48, dtype=np.float32).reshape(2, 1, 24) * 0.37) ** 2
    codes = np.arange(80).reshape(2, 40) * 7 % 24
    content += range_coder.encode(symbols.intervals_of(codes, use))
    assert hashlib.sha256(content).hexdigest()[:16] == "b686616d78540be5"
