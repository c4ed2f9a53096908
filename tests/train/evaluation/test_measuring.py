"""Values of an evaluation: property tests, and comparisons with independent implementations."""

from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import torch
from auraloss.freq import STFTLoss
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import bootstrap

from audiovae.layers.losses import stft_distance
from audiovae.layers.spectra import log_mel, mel_distance, mel_filters
from shards import Split
from shards.building.build import build
from train.errors import TrainError
from train.evaluation.measuring import speech
from train.evaluation.measuring.chunks import Measured, dbfs
from train.evaluation.measuring.frechet import embed, frechet, mean_and_factor, noise_floor
from train.evaluation.measuring.latents import latent_rates, latent_rows
from train.evaluation.measuring.recordings import join_chunks, speech_averages
from train.evaluation.measuring.tables import averages, latents_in_use, silence
from train.evaluation.report.examples import first_audible_samples
from train.evaluation.statistics.bootstrap import grouping, mean_intervals, median_interval
from train.evaluation.statistics.jackknife import PARTS, jackknife_intervals, left_out

RATE = 22050
SEEDS = st.integers(0, 2**32 - 1)


def loud(seed: int, items: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    """A noisy copy and its reference, noise far above all floors: [items, 1, 65536] each."""
    generator = torch.Generator().manual_seed(seed)
    target = 0.3 * torch.randn(items, 1, 65536, generator=generator)
    return target + 0.1 * torch.randn(target.shape, generator=generator), target


def test_stft_distance_is_that_of_auraloss():
    output, target = loud(0)
    expected = []
    for i in range(len(target)):  # ours normalises each item separately
        terms = [
            # auraloss pads by reflection and does not divide by the window sum; both change a ratio only slightly.
            STFTLoss(w, w // 4, w, w_sc=1, w_log_mag=1)(output[i : i + 1], target[i : i + 1])
            for w in (2048, 512, 128)
        ]
        expected.append(sum(terms) / 3)
    torch.testing.assert_close(stft_distance(output, target), torch.stack(expected), rtol=0.02, atol=0.0)


def test_mel_distance_is_that_of_auraloss():
    output, target = loud(1)
    theirs = STFTLoss(fft_size=1024, hop_size=256, win_length=1024, w_sc=0, w_log_mag=1)
    theirs.fb = mel_filters(80, 1024, RATE)
    theirs.scale = "mel"
    expected = torch.stack([theirs(output[i : i + 1], target[i : i + 1]) for i in range(len(target))])
    torch.testing.assert_close(mel_distance(output, target, RATE), expected, rtol=0.02, atol=0.0)


def test_intervals_are_those_of_scipy():
    values = np.random.default_rng(3).normal(2.0, 1.0, 40)
    ours = mean_intervals(values[:, None], np.arange(40))[0]
    theirs = bootstrap((values,), np.mean, method="percentile", n_resamples=4000, rng=1).confidence_interval
    np.testing.assert_allclose(ours, theirs, atol=0.03)


@settings(max_examples=20, deadline=None)
@given(SEEDS)
def test_intervals_hold_the_mean_and_repeat(seed):
    rng = np.random.default_rng(seed)
    values, groups = rng.normal(size=(60, 2)), rng.permutation(np.arange(60) % 12)
    values[rng.random(values.shape) < 0.1] = np.nan
    found = mean_intervals(values, groups)
    assert (found == mean_intervals(values, groups)).all()
    assert (found[:, 0] < np.nanmean(values, 0)).all()
    assert (np.nanmean(values, 0) < found[:, 1]).all()


def test_copies_of_a_chunk_make_no_interval_narrower():
    values = np.random.default_rng(5).normal(size=(20, 1))
    once = mean_intervals(values, np.arange(20))
    copied = mean_intervals(np.repeat(values, 10, axis=0), np.repeat(np.arange(20), 10))
    np.testing.assert_allclose(copied, once)
    assert np.ptp(mean_intervals(np.repeat(values, 10, axis=0), np.arange(200))) < 0.5 * np.ptp(once)


def test_the_medians_interval_is_that_of_scipy():
    values = np.random.default_rng(3).normal(5, 2, 61)
    found = median_interval(values, np.arange(61))
    own = bootstrap((values,), np.median, method="percentile", n_resamples=4000, rng=1).confidence_interval
    np.testing.assert_allclose(found, own, atol=0.15)
    blank = np.concatenate([values, np.full(5, np.nan)])
    np.testing.assert_allclose(median_interval(blank, np.arange(66)), own, atol=0.15)
    assert np.isnan(median_interval(values, np.zeros(61, int))).all()


def test_the_medians_interval_is_the_same_in_little_memory(monkeypatch):
    values, groups = np.random.default_rng(4).normal(size=300), np.arange(300) // 7
    whole = median_interval(values, groups)
    monkeypatch.setattr("train.evaluation.statistics.bootstrap.CELLS", 1000)
    assert (median_interval(values, groups) == whole).all()


@given(seed=st.integers(0, 50))
@settings(max_examples=20, deadline=None)
def test_of_a_mean_the_jackknife_gives_the_standard_error(seed):
    """With one row per part this is an identity (Efron and Stein 1981)."""
    values = np.random.default_rng(seed).normal(5, 2, PARTS)
    low, high = jackknife_intervals(lambda kept: values[kept].mean(), np.arange(PARTS))
    error = values.std(ddof=1) / np.sqrt(PARTS)
    np.testing.assert_allclose([low, high], values.mean() + 1.959964 * error * np.array([-1, 1]), rtol=1e-6)


def test_the_jackknife_keeps_groups_whole_and_bounds():
    groups = np.random.default_rng(0).integers(0, 70, 500)
    parts = left_out(groups)
    assert {len({*parts[groups == group]}) for group in np.unique(groups)} == {1}
    assert {*parts} == {*range(PARTS)}
    share = np.repeat([1.0, 0.0], [25, 5])
    low, high = jackknife_intervals(lambda kept: share[kept].mean(), np.arange(30), high=1.0)
    assert 0 <= low < 25 / 30 < high <= 1
    assert np.isnan(jackknife_intervals(lambda kept: share[kept].mean(), np.zeros(30, int))).all()


def test_what_is_resampled():
    starts = np.arange(60) * 50
    assert grouping(np.arange(60) % 5, starts, 100)[1] == "recordings"
    groups, over = grouping(np.zeros(120, np.int64), np.arange(120) * 50, 100)
    assert (over, groups.max()) == ("blocks", 5)
    assert groups[:20].tolist() == [0] * 20
    assert grouping(np.zeros(8, np.int64), np.arange(8) * 50, 100)[1] == "chunks"
    assert np.isnan(mean_intervals(np.ones((3, 1)), np.zeros(3, np.int64))).all()


@pytest.mark.parametrize(("count", "other"), [(40, 30), (5, 30), (4, 5)])
def test_frechet_distance_is_the_closed_form(count, other):
    """With more vectors than dimensions, and with fewer."""
    rng = np.random.default_rng(0)
    sets = [rng.normal(size=(n, 6)) * rng.uniform(0.5, 2, 6) + rng.normal(size=6) for n in (count, other)]
    first, second = (np.cov(vectors.T, bias=True) for vectors in sets)
    # The trace of the root is the sum of the roots of the eigenvalues; beyond the rank they are rounding.
    values = np.sort(np.linalg.eigvals(first @ second).real)[-min(count - 1, other - 1, 6) :]
    shift = np.square(sets[0].mean(0) - sets[1].mean(0)).sum()
    expected = shift + np.trace(first + second) - 2 * np.sqrt(values).sum()
    assert frechet(*sets) == pytest.approx(expected, rel=1e-9)
    flat = (
        np.array([[2.0, 3.0], [-2.0, 3.0], [2.0, -3.0], [-2.0, -3.0]]),
        np.array([[2.0, 1], [0, 1], [2, -1], [0, -1]]),
    )
    assert frechet(*flat) == pytest.approx(1 + (2 - 1) ** 2 + (3 - 1) ** 2)


@settings(max_examples=15, deadline=None)
@given(SEEDS, st.integers(2, 100))
def test_frechet_of_equal_sets_in_any_order_is_zero(seed, count):
    rng = np.random.default_rng(seed)
    first, second = rng.normal(size=(count, 16)), rng.normal(size=(count + 3, 16))
    assert frechet(first, rng.permutation(first)) == pytest.approx(0, abs=1e-9)
    assert frechet(first, second) == pytest.approx(frechet(second, rng.permutation(first)), rel=1e-6)
    assert frechet(first, second) > 0


def test_frechet_grows_with_noise_and_knows_its_floor():
    generator = torch.Generator().manual_seed(0)
    t = torch.arange(4096) / RATE
    tones = torch.sin(2 * torch.pi * torch.linspace(200, 3000, 60)[:, None, None] * t)
    noise = torch.randn(tones.shape, generator=generator)
    own = embed(tones, RATE).numpy()
    found = [frechet(own, embed(tones + level * noise, RATE).numpy()) for level in (0.0, 0.001, 0.01, 0.1, 0.5)]
    assert found[0] == pytest.approx(0, abs=1e-6)
    assert found == sorted(found)
    assert 0 < noise_floor(own, np.arange(60)) < found[-1]
    assert noise_floor(own, np.zeros(60)) is None
    assert frechet(own[:1], own) is None
    bands = log_mel(tones[:1], 32, 1024, 256, RATE)
    np.testing.assert_allclose(own[0], torch.cat([bands.mean(2), bands.std(2, correction=0)], 1)[0], rtol=1e-4)
    assert mean_and_factor(own)[1].dtype == np.float64


def test_use_and_cost_of_codes():
    codes = np.zeros((4, 2, 8), np.float32)
    codes[:, 1] = np.arange(8)
    still, even = latent_rows({"codes": codes}, 16, seconds=2.0)
    assert (still["perplexity"], still["codes_used"], still["entropy_bits_per_second"]) == (1.0, 1 / 16, 0.0)
    assert (even["perplexity"], even["codes_used"]) == (pytest.approx(8), 0.5)
    assert (even["bits_per_second"], even["entropy_bits_per_second"]) == (16.0, pytest.approx(12))
    of = np.array([True, True, True, False])
    costs = latent_rates({"codes": codes}, 16, 2.0, of)
    assert np.nanmean(costs["entropy_bits_per_second"]) == pytest.approx(12)
    assert np.isnan(costs["entropy_bits_per_second"]).tolist() == (~of).tolist()


def test_a_unit_is_active_when_its_mean_varies():
    levels = torch.zeros(4, 4, 10)
    levels[:, 0] = torch.randn(4, 10)  # over items and time
    levels[:, 1] = torch.arange(4.0).unsqueeze(1)  # over items alone
    levels[:, 2] = 5.0  # not at all
    levels[:, 3] = 0.05 * torch.randn(4, 10)  # too little
    columns = {"mean_0": levels.mean(2).numpy(), "variance_0": levels.var(2, unbiased=False).numpy()}
    row = latent_rows({"nats": np.full((4, 1), 3.0), **columns}, 0, seconds=0.5)[0]
    assert row == {"active_units": 0.5, "kl_nats_per_second": 6.0, "kl_bits_per_second": pytest.approx(6 / np.log(2))}


def test_silent_chunks_are_in_no_mean():
    names = ("si_sdr", "stft", "mel", "mse", "cosine")
    columns = {name: np.array([1.0, 3.0, 100.0]) for name in names}
    columns |= {"silent": np.array([0.0, 0.0, 1.0])}
    columns |= {"reference_dbfs": np.array([-20.0, -20, -90]), "output_dbfs": np.array([-20.0, -20, -70])}
    measured = Measured(np.arange(3), np.zeros(3, np.int64), np.arange(3), columns)
    row = averages(measured, 10)
    assert {row[name] for name in names} == {2.0}
    assert row["interval_over"] == "chunks"
    assert silence(measured) == {
        "chunks": 1,
        "reference_dbfs": pytest.approx(-90),
        "output_dbfs": pytest.approx(-70),
        "output_dbfs_loudest": -70,
    }
    nothing = averages(measured.where(measured.silent), 10)
    assert nothing["mse"] is None
    assert nothing["intervals"]["mse"] is None
    assert silence(measured.where(~measured.silent))["output_dbfs"] is None


def test_a_codebook_in_little_use_has_at_least_one_code():
    codes = np.zeros((30, 1, 4), np.float32)
    codes[0] = 3  # of one recording only: without it, one code remains
    columns = {"silent": np.zeros(30)}
    measured = Measured(np.arange(30), np.arange(30), np.zeros(30, np.int64), columns)
    split = SimpleNamespace(samples=2205, rate=RATE, channels=1)
    (row,) = latents_in_use(measured, {"codes": codes}, 16, split)
    low, high = row["intervals"]["perplexity"]
    assert 1 <= low <= row["perplexity"] <= high <= 16


def test_of_few_recordings_speech_has_no_interval():
    rows = [{"pesq": 2.0 + i / 10, "stoi": 0.8} for i in range(5)]
    rows[4]["stoi"] = float("nan")
    found = speech_averages(rows)
    assert found["pesq"] == pytest.approx(2.2)
    low, high = found["intervals"]["pesq"]
    assert 2.0 <= low < 2.2 < high <= 2.4
    assert found["intervals"]["stoi"] is None


def test_recordings_begin_where_something_is_heard(tmp_path):
    """One recording with five seconds of silence and then sound, and one of silence only."""
    sound = 0.3 * np.sin(np.arange(3 * RATE) * 0.1)
    (tmp_path / "in").mkdir()
    soundfile.write(tmp_path / "in/a.wav", np.r_[np.zeros(5 * RATE), sound], RATE)
    soundfile.write(tmp_path / "in/b.wav", np.zeros(3 * RATE), RATE)
    build(tmp_path / "in", tmp_path / "data", samples=RATE, hop=RATE // 2, workers=1, valid=0)
    split = Split.open(tmp_path / "data", "train")
    sources, starts = split.keys()
    peaks = split.read(np.arange(len(split))).abs().amax(1).numpy()
    measured = Measured(np.arange(len(split)), sources, starts, {"silent": (peaks == 0).astype(float)})
    ((source, first),) = first_audible_samples(measured).items()
    assert split.manifest.sources[source].path.endswith("a.wav")
    assert 4 * RATE <= first <= 5 * RATE
    piece = join_chunks(split, source, first, 2.0)
    assert len(piece) == 2 * RATE
    assert np.abs(piece[-RATE:]).max() > 0.1
    whole = join_chunks(split, source)
    np.testing.assert_array_equal(whole[first : first + 2 * RATE], piece)
    assert len(join_chunks(split, source, first, 0.1)) == RATE, "at least one chunk"


def test_levels_are_those_of_the_root_mean_square():
    sine = torch.sin(torch.arange(22050) * 2 * torch.pi * 441 / RATE).view(1, 1, -1)
    levels = dbfs(torch.cat([sine, torch.full_like(sine, 0.1), torch.zeros_like(sine)]))
    torch.testing.assert_close(levels, torch.tensor([-3.0103, -20.0, -140.0]), atol=1e-3, rtol=0)


def test_speech_falls_with_noise():
    pytest.importorskip("pesq")
    pytest.importorskip("pystoi")
    rng = np.random.default_rng(0)
    t = np.arange(3 * RATE) / RATE
    voice = sum(np.sin(2 * np.pi * 140 * k * t) / k for k in range(1, 30)) * (1 + np.sin(2 * np.pi * 3 * t)) * 0.1
    noise = rng.normal(size=len(t))
    found = [speech.measure_speech(voice, (voice + level * noise).astype(np.float32), RATE) for level in (0, 0.02, 0.3)]
    for column in zip(*found, strict=True):
        assert list(column) == sorted(column, reverse=True)
    assert found[0] == (pytest.approx(4.64, abs=0.01), pytest.approx(1.0, abs=1e-3))
    assert np.isnan(speech.measure_speech(0 * voice, 0 * voice, RATE)).all()


@pytest.mark.parametrize("length", [1, 11024, 11025, 220500, 220501, 40 * 220500])
def test_pieces_lie_in_the_recording(length):
    found = speech.pieces(length, RATE)
    assert len(found) <= speech.MAX_PIECES
    assert bool(found) == (length >= RATE // 2)
    assert all(0 <= part.start < part.stop and length - part.start >= RATE // 2 for part in found)


def test_speech_without_its_packages_says_how(monkeypatch):
    monkeypatch.setattr(speech.importlib.util, "find_spec", lambda name: None if name == "pesq" else name)
    with pytest.raises(TrainError, match="pip install pesq"):
        speech.require_packages()
