"""The measures of generated recordings, on vectors whose answer is known."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from train.evaluation.generation.measures.copying import NEAR_SHARE, copies, nearest
from train.evaluation.generation.measures.distances import coherence, coherence_in_words, diversity, lags
from train.evaluation.generation.measures.kernel import kernel_distance, kernel_floor, kernel_width
from train.evaluation.generation.measures.pairs import squared_distances
from train.evaluation.generation.measures.windows import AUDIBLE, MISSING, SILENT, Windows, table_row, windows_of
from train.evaluation.measuring.frechet import embed

WIDE = 6  # numbers in a vector


def clustered(rng, pieces: int, count: int, shift: float = 0.0, first: int = 0) -> Windows:
    """Pieces whose windows share a mean of their own, as the seconds of a recording do; each piece is a group."""
    means = rng.normal(shift, 1, (pieces, 1, WIDE))
    vectors = means + rng.normal(0, 0.3, (pieces, count, WIDE))
    return windows_of(vectors, np.full((pieces, count), AUDIBLE), first + np.arange(pieces))


def test_the_kernel_distance_of_equal_kinds_is_zero_on_average():
    """A mean that counts pairs within a recording is about 0.1 here."""
    rng = np.random.default_rng(0)
    found = [kernel_distance(clustered(rng, 4, 8), clustered(rng, 4, 8, first=10)).value for _ in range(300)]
    assert abs(np.mean(found)) < 3 * np.std(found) / np.sqrt(len(found))
    far = [kernel_distance(clustered(rng, 4, 8), clustered(rng, 4, 8, 2.0, first=10)).value for _ in range(20)]
    assert np.mean(far) > 0.2


@given(st.integers(0, 1000), st.integers(2, 4), st.integers(2, 4))
@settings(max_examples=25, deadline=None)
def test_the_kernel_distance_is_the_mean_over_pairs_of_different_groups(seed, here, there):
    rng = np.random.default_rng(seed)
    first, second = clustered(rng, here, 3), clustered(rng, there, 2, 0.5, first=here - 1)  # one group is in both
    width = kernel_width(first.vectors)

    def mean(one: Windows, other: Windows) -> float:
        kernel = np.exp(-squared_distances(one.vectors, other.vectors) / (2 * width**2))
        return kernel[one.groups[:, None] != other.groups].mean()

    expected = mean(first, first) + mean(second, second) - 2 * mean(first, second)
    assert kernel_distance(first, second).value == pytest.approx(expected, abs=1e-9)
    order = rng.permutation(len(first))
    mixed = replace(first, vectors=first.vectors[order], groups=first.groups[order])
    assert kernel_distance(mixed, second).value == pytest.approx(expected, abs=1e-9)


def test_the_interval_of_a_kernel_distance_resamples_recordings():
    rng = np.random.default_rng(1)
    few, many, wide = clustered(rng, 4, 3), clustered(rng, 40, 3, first=50), clustered(rng, 6, 3, 1.0, first=100)
    assert kernel_distance(few, wide).interval is None
    found = kernel_distance(many, wide)
    low, high = found.interval
    assert low < found.value < high
    # A hundred windows of a recording tell no more about other recordings than three of it.
    long = clustered(np.random.default_rng(1), 6, 100, 1.0, first=100)
    low_long, high_long = kernel_distance(many, long).interval
    assert high_long - low_long > 0.3 * (high - low)
    assert kernel_distance(many, replace(wide, groups=np.zeros_like(wide.groups))) is None


def test_the_floor_is_what_most_sets_of_the_same_kind_stay_below():
    rng = np.random.default_rng(2)
    below, trials = 0, 40
    for _ in range(trials):
        known = clustered(rng, 24, 4)
        floor = kernel_floor(known, 6)
        assert floor.groups == 6
        below += kernel_distance(known, clustered(rng, 6, 4, first=100)).value <= floor.high
    assert below >= 0.8 * trials
    assert kernel_distance(known, clustered(rng, 6, 4, 1.5, first=100)).value > 2 * floor.high
    assert kernel_floor(clustered(rng, 3, 4), 6) is None
    assert kernel_floor(known, 100).groups == 12


@given(st.integers(0, 1000), st.integers(1, 5))
@settings(max_examples=25, deadline=None)
def test_coherence_is_the_mean_over_pairs_at_one_lag_of_one_piece(seed, lag):
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(4, 6, WIDE))
    kinds = rng.choice([MISSING, AUDIBLE, SILENT], p=[0.1, 0.8, 0.1], size=(4, 6))
    expected = [
        np.sqrt(np.square(vectors[piece, i] - vectors[piece, i + lag]).mean())
        for piece in range(4)
        for i in range(6 - lag)
        if kinds[piece, i] == kinds[piece, i + lag] == AUDIBLE
    ]
    found = coherence(windows_of(vectors, kinds, np.arange(4)), lag, 1.5)
    if not expected:
        assert found is None
        return
    assert found.distance.value == pytest.approx(np.mean(expected))
    assert (found.pairs, found.seconds, found.distance.interval) == (len(expected), lag * 1.5, None)


def test_pieces_that_drift_or_stand_still_are_not_coherent():
    rng = np.random.default_rng(3)

    def walks(step: float) -> Windows:
        vectors = rng.normal(0, step, (12, 10, WIDE)).cumsum(1)
        return windows_of(vectors, np.full((12, 10), AUDIBLE), np.arange(12))

    recordings = [coherence(walks(1.0), lag, 1.0) for lag in (1, 5)]
    assert recordings[1].distance.value > 1.5 * recordings[0].distance.value
    for step, word in ((1.0, "coherent"), (2.0, "drifting"), (0.3, "monotonous")):
        generated = walks(step)
        for lag, usual in zip((1, 5), recordings, strict=True):
            assert coherence_in_words(coherence(generated, lag, 1.0), usual) == word
    alone = coherence(windows_of(np.zeros((1, 3, WIDE)), np.full((1, 3), AUDIBLE), np.zeros(1, int)), 1, 1.0)
    assert coherence_in_words(alone, recordings[0]) == "unknown"


@pytest.mark.parametrize(
    ("count", "seconds", "expected"), [(10, 1.0, [1, 5]), (30, 1.0, [1, 5, 10, 20]), (3, 4.0, [1, 2]), (1, 1.0, [])]
)
def test_lags_are_those_that_fit(count, seconds, expected):
    assert lags(count, seconds) == expected


def test_diversity_is_the_distance_between_pieces():
    rng = np.random.default_rng(4)
    many = clustered(rng, 8, 5)
    means = many.vectors.reshape(8, 5, WIDE).mean(1)
    pairs = [np.sqrt(np.square(a - b).mean()) for i, a in enumerate(means) for b in means[:i]]
    found = diversity(many)
    assert found.value == pytest.approx(np.mean(pairs))
    low, high = found.interval
    assert low < found.value < high
    one = windows_of(np.tile(rng.normal(size=(1, 5, WIDE)), (8, 1, 1)), np.full((8, 5), AUDIBLE), np.arange(8))
    assert diversity(one).value == pytest.approx(0, abs=1e-6)
    # Pieces of one recording are not compared with each other.
    assert diversity(replace(many, groups=np.zeros_like(many.groups))) is None
    halves = replace(many, groups=many.groups // 4)
    across = [np.sqrt(np.square(a - b).mean()) for a in means[:4] for b in means[4:]]
    assert diversity(halves).value == pytest.approx(np.mean(across))


def test_copies_are_found_and_held_out_recordings_are_none():
    rng = np.random.default_rng(5)
    training = rng.normal(size=(700, WIDE)) * [1, 10, 1, 1, 1, 0]
    held_out = nearest(clustered(rng, 60, 20), training)
    copied = clustered(rng, 6, 4)
    places = rng.integers(0, 700, len(copied))
    copied = replace(copied, vectors=training[places] + rng.normal(0, 1e-3, (len(copied), WIDE)))
    found = nearest(copied, training)
    assert (found.windows == places).all()
    result = copies(found, held_out)
    assert result.share.value == 1
    assert result.share.interval == (1, 1)
    assert result.ratio < 0.1
    covered, shares = [], []
    for _ in range(30):
        known, fresh = (nearest(clustered(rng, 40, 5), training) for _ in range(2))
        honest = copies(fresh, known)
        low, high = honest.share.interval
        covered.append(low <= NEAR_SHARE <= high)
        shares.append(honest.share.value)
    assert np.mean(covered) >= 0.8
    assert NEAR_SHARE / 2 < np.mean(shares) < 2 * NEAR_SHARE
    assert honest.ratio == pytest.approx(1, abs=0.2)
    assert copies(held_out, held_out).share.value == pytest.approx(NEAR_SHARE, abs=1e-3)
    none = windows_of(np.zeros((1, 1, WIDE)), np.full((1, 1), SILENT), np.zeros(1, int))
    assert copies(found, nearest(none, training)) is None
    assert copies(nearest(none, training), held_out) is None
    assert copies(nearest(clustered(rng, 4, 4), training), held_out).share.interval is None


def test_the_nearest_window_is_that_of_standardised_numbers():
    rng = np.random.default_rng(6)
    training = rng.normal(size=(50, WIDE)) * 10.0 ** np.arange(WIDE)
    own = clustered(rng, 100, 6)
    found = nearest(own, training)
    every = np.sqrt(np.square((own.vectors[:, None] - training) / training.std(0)).mean(2))
    assert (found.windows == every.argmin(1)).all()
    assert found.distances == pytest.approx(every.min(1))


def test_windows_are_neighbours_and_silence_is_apart():
    rate, samples = 8000, 4000
    audio = 0.1 * torch.randn(3 * samples + 100, generator=torch.Generator().manual_seed(0))
    audio[samples : 2 * samples] = 0
    row = table_row(audio, samples, rate, 5)
    assert row["kind"].tolist() == [[AUDIBLE, SILENT, AUDIBLE, MISSING, MISSING]]
    assert torch.equal(row["embedding"][0, 2], embed(audio[None, None, 2 * samples : 3 * samples], rate)[0])
    found = windows_of(row["embedding"].numpy(), row["kind"].numpy(), np.array([7]))
    assert (len(found), found.silent) == (2, 1)
    assert (found.places.tolist(), found.groups.tolist()) == ([0, 2], [7, 7])
