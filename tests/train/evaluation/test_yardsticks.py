"""Yardsticks: Opus, the linear optimum, errors by band, and measures that model hearing."""

import itertools
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from train.errors import TrainError
from train.evaluation.measuring.metrics import si_sdr
from train.evaluation.measuring.summary_file import check_passages
from train.evaluation.report.tables import passages_table
from train.evaluation.report.verdict import against_linear, against_opus, opus_at
from train.evaluation.yardsticks import comparing, perceptual
from train.evaluation.yardsticks.alignment import advanced, aligned, delay_of
from train.evaluation.yardsticks.bands import BEST_DB, band_errors, octave_edges
from train.evaluation.yardsticks.linear import principal, projected, second_moments
from train.evaluation.yardsticks.opus import OPUS_RATE, decode, encode, opus
from train.evaluation.yardsticks.passages import (
    MOST_PASSAGES,
    SHORTEST_S,
    Passage,
    all_passages,
    choose_passages,
    for_visqol,
)

RATE = 22050
SEEDS = st.integers(0, 2**32 - 1)


def music(seconds: float, seed: int = 0) -> np.ndarray:
    """Decaying harmonic tones with some noise, [T] float32: a spectrum that falls as that of music does."""
    rng = np.random.default_rng(seed)
    t = np.arange(int(seconds * RATE)) / RATE
    tones = [np.sin(2 * np.pi * k * 220 * t + rng.uniform(0, 6)) / k for k in range(1, 40)]
    return (np.exp(-3 * (t % 0.5)) * (0.2 * sum(tones) + 0.02 * rng.normal(size=len(t)))).astype(np.float32)


def ratio(output: np.ndarray, reference: np.ndarray) -> float:
    """SI-SDR in dB."""
    return si_sdr(torch.from_numpy(output)[None], torch.from_numpy(reference)[None]).item()


@given(SEEDS, st.floats(-60, 60))
@example(2, 1.8249018705411402)  # near the middle of two computed values
@settings(max_examples=30)
def test_a_known_delay_is_found_to_a_hundredth_of_a_sample(seed, delay):
    audio = np.pad(np.random.default_rng(seed).normal(size=3000), 100).astype(np.float32)
    late = advanced(audio, -delay)
    found = delay_of(audio, late, 80)
    assert abs(found - delay) < 0.01
    # What is left of the delay costs next to nothing of a signal below half of the Nyquist frequency.
    smooth = np.convolve(audio, np.hanning(12) / 6, "same").astype(np.float32)
    assert ratio(aligned(smooth, advanced(smooth, -delay), 2000), smooth) > 50


def test_a_whole_delay_is_a_shift():
    audio = np.pad(music(0.2), 60)
    assert delay_of(audio, np.roll(audio, 37), 50) == 37
    np.testing.assert_allclose(advanced(audio, 37)[:-37], audio[37:], atol=1e-5)
    np.testing.assert_allclose(aligned(audio, np.roll(audio, 37)[:-5], RATE)[:-60], audio[:-60], atol=1e-5)


def test_opus_counts_its_packets_and_repeats():
    audio = music(2.0)
    found = {kbits: opus(audio, RATE, 1000 * kbits) for kbits in (8, 24)}
    for kbits, coded in found.items():
        assert len(coded.audio) == len(audio)
        assert coded.bits / 2 == pytest.approx(1000 * kbits, rel=0.6)
    assert ratio(found[24].audio, audio) > ratio(found[8].audio, audio) + 1
    again = opus(audio, RATE, 8000)
    assert again.bits == found[8].bits
    np.testing.assert_array_equal(again.audio, found[8].audio)
    packets = encode(np.repeat(audio, 2), 8000)
    assert len(decode(packets)) >= 2 * len(audio)
    assert abs(delay_of(np.repeat(audio, 2), decode(packets), 1000) - 312) < 20, "6.5 ms, the look-ahead of the codec"
    assert len(opus(audio[: RATE // 2], OPUS_RATE, 16000).audio) == RATE // 2


@given(SEEDS, st.floats(0.05, 0.9))
@settings(max_examples=10)
def test_no_other_linear_code_has_a_smaller_error(seed, share):
    hop = 16
    generator = torch.Generator().manual_seed(seed)
    audio = torch.cumsum(torch.randn(4, 1, 20 * hop, generator=generator), 2)  # low frequencies are the strongest
    moments = second_moments(audio, hop)
    basis = principal(moments, share)
    assert basis.shape == (max(1, round(share * hop)), hop)
    torch.testing.assert_close(basis @ basis.T, torch.eye(len(basis)), atol=1e-5, rtol=0)
    other = torch.linalg.qr(torch.randn(hop, len(basis), generator=generator)).Q.T
    kept, less = (((each @ moments) * each).sum() for each in (basis, other))
    assert kept >= less * (1 - 1e-5)


def test_with_all_values_the_linear_code_is_exact():
    audio = music(0.3)
    moments = second_moments(torch.from_numpy(audio).view(1, 1, -1), 64)
    np.testing.assert_allclose(projected(audio, principal(moments, 1.0)), audio, atol=1e-5)
    ratios = [ratio(projected(audio, principal(moments, share)), audio) for share in (0.1, 0.3, 0.6)]
    assert ratios == sorted(ratios)
    assert len(projected(audio[:7], principal(moments, 0.5))) == 7


@given(SEEDS, st.floats(-20, 20))
@settings(max_examples=15)
def test_errors_of_levels_are_those_of_the_gain(seed, gain):
    noise = np.random.default_rng(seed).normal(0, 0.1, RATE // 4)
    found = band_errors(noise, noise * 10 ** (gain / 20), RATE)
    np.testing.assert_allclose(found["level_error"], abs(gain), atol=1e-6)
    np.testing.assert_allclose(found["level_bias"], gain, atol=1e-6)
    assert found["level_error_high"] == pytest.approx(abs(gain), abs=1e-6)
    other = band_errors(noise, noise + 0.1 * np.roll(noise, 5000), RATE)["snr"]
    np.testing.assert_allclose(other, 20, atol=3)


def test_bands_are_told_apart():
    t = np.arange(RATE) / RATE
    low, high = 0.3 * np.sin(2 * np.pi * 700 * t), 0.3 * np.sin(2 * np.pi * 6000 * t)
    edges = octave_edges(RATE)
    assert edges == [0, 250, 500, 1000, 2000, 4000, 8000, 11025]
    found = band_errors(low + high, low + high / 10, RATE)
    places = [np.searchsorted(edges, frequency) - 1 for frequency in (700, 6000)]
    assert found["snr"][places].tolist() == [pytest.approx(70, abs=40), pytest.approx(0.9, abs=0.1)]
    assert found["level_bias"][places[1]] < -15
    assert abs(found["level_bias"][places[0]]) < 0.5
    same = band_errors(low, low, RATE)
    assert same["snr"].max() == BEST_DB
    assert same["level_error_high"] == pytest.approx(0, abs=1e-9)
    assert np.isnan(band_errors(0 * low, 0 * low, RATE)["level_error_high"])
    assert octave_edges(8000) == [0, 250, 500, 1000, 2000, 4000]
    assert octave_edges(8200) == [0, 250, 500, 1000, 2000, 4100]
    assert np.isnan(band_errors(low, low, 8000)["level_error_high"]), "nothing is above 4 kHz"


def fake_split(lengths: list[int], hop: int, samples: int) -> SimpleNamespace:
    """The chunks of recordings, in no order."""
    pairs = [(source, first) for source, length in enumerate(lengths) for first in range(0, length - samples + 1, hop)]
    order = np.random.default_rng(0).permutation(len(pairs))
    table = np.array([pairs[place] for place in order]).T
    return SimpleNamespace(keys=lambda: (table[0], table[1]), rate=100, samples=samples)


@given(st.lists(st.integers(100, 20000), min_size=1, max_size=5), st.integers(30, 100), SEEDS)
@settings(max_examples=40)
def test_passages_are_few_and_begin_where_something_is_heard(lengths, hop, seed):
    split = fake_split(lengths, hop, 100)
    sources, starts = split.keys()
    silent = np.random.default_rng(seed).random(len(starts)) < 0.3
    found, chosen = all_passages(split, silent), choose_passages(split, silent)
    assert len(chosen) == min(len(found), MOST_PASSAGES)
    assert len(for_visqol(len(chosen))) <= 4
    heard = {*zip(sources[~silent].tolist(), starts[~silent].tolist(), strict=True)}
    assert (len(found) > 0) == (len(heard) > 0)
    for one in found:
        assert (one.source, one.first) in heard
        assert SHORTEST_S * 100 <= one.length <= 600
        assert one.first + one.length <= lengths[one.source]
    for one, other in itertools.pairwise(found):
        assert one.source < other.source or one.first + one.length <= other.first


def test_a_passage_is_cut_from_longer_chunks(monkeypatch):
    """Opus is measured on the seconds that its rate is divided by."""
    monkeypatch.setattr(comparing, "join_chunks", lambda *_: np.ones(1000, np.float32))
    assert comparing.passage_audio(SimpleNamespace(rate=100), Passage(0, 0, 600)).shape == (600,)


def test_zimtohrli_falls_with_noise():
    audio = music(1.0)
    noise = np.random.default_rng(0).normal(size=len(audio)).astype(np.float32)
    found = [
        perceptual.measure_perceptual(audio, audio + level * noise, RATE, with_visqol=False)["zimtohrli"]
        for level in (0, 0.005, 0.1)
    ]
    assert found[0] == pytest.approx(5)
    assert found == sorted(found, reverse=True)
    assert found[2] < 4
    assert np.isnan(perceptual.measure_perceptual(audio, 0 * audio, RATE, False)["zimtohrli"])
    assert np.isnan(perceptual.measure_perceptual(audio[:2000], audio[:2000], RATE, False)["zimtohrli"]), "too short"


def test_visqol_falls_with_noise():
    pytest.importorskip("visqol")
    audio = music(1.1)
    noise = np.random.default_rng(0).normal(size=len(audio)).astype(np.float32)
    found = [perceptual.measure_perceptual(audio, audio + level * noise, RATE, True)["visqol"] for level in (0, 0.02)]
    assert found[0] > 4.5 > found[1]
    assert np.isnan(perceptual.measure_perceptual(audio[:RATE], audio[:RATE] * 0, RATE, True)["visqol"])


def test_without_its_packages_a_measure_says_how(monkeypatch):
    monkeypatch.setattr(perceptual.importlib.util, "find_spec", lambda name: None if name == "visqol" else name)
    with pytest.raises(TrainError, match=r"--perceptual: visqol-python not installed; run: pip install visqol-python$"):
        perceptual.require_packages()
    monkeypatch.setattr(perceptual.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(TrainError, match="pip install zimtohrli visqol-python"):
        perceptual.require_packages()


def test_an_ffmpeg_without_opus_is_told(monkeypatch):
    monkeypatch.setattr(comparing, "has_opus", lambda: False)
    model = SimpleNamespace(code_size=16)
    engine = SimpleNamespace(share=lambda value: value)
    codes, fitted, notes = comparing.yardstick_codes(engine, SimpleNamespace(rate=RATE), model, "", 5.0)
    assert (codes, fitted) == ([], "")
    assert "has no libopus" in notes[0]
    assert "the latents of this model are codes" in notes[1]


@pytest.mark.parametrize(
    ("kbits", "more"), [(7.6, []), (6.51, [6.5]), (19, []), (27, []), (32.71, [32.7]), (3, []), (900, [])]
)
def test_opus_gets_a_row_at_the_rate_of_the_model(kbits, more):
    assert comparing.own_opus_rate(kbits) == more


def passages(**own: float) -> dict:
    """A summary with a model of 12 kbit/s and two rows of Opus."""
    bands = {name: [1.0, 2.0] for name in ("snr", "level_error", "level_bias")}
    model = {"name": "this model", "kind": "model", "kbit_per_second": 12.0, "rate_of": "KL", "mel": 0.5, **own}
    rows = [model | bands] + [
        {"name": f"Opus {rate}", "kind": "opus", "kbit_per_second": rate, "mel": mel, "zimtohrli": mos, **bands}
        for rate, mel, mos in ((8.0, 0.8, 2.5), (20.0, 0.2, 4.5))
    ]
    rows.append({"name": "linear optimum", "kind": "linear", "values_per_second": 2880.0, "mel": 0.6, "si_sdr": 15.0})
    rows[-1] |= bands
    return {"passages": {"rows": rows, "band_edges_hz": [0.0, 500.0, 1000.0], "count": 2, "seconds": 12.0}}


def test_the_page_says_where_the_model_stands_against_opus():
    summary = passages(zimtohrli=3.0)
    assert opus_at(summary, 160**0.5, "mel") == pytest.approx(0.5), "half way on a logarithmic scale"
    assert opus_at(summary, 8.0, "zimtohrli") == 2.5
    assert opus_at(summary, 30.0, "mel") is None
    assert opus_at(summary, 21.0, "mel") == 0.2
    (worse,) = against_opus(summary)
    assert not worse.good
    assert worse.text.startswith("A listener would pick Opus, by Zimtohrli MOS. At 12 kbit/s of KL")
    assert "Zimtohrli MOS 3 against 3.39" in worse.text
    assert "Opus has the same Zimtohrli MOS at about 10 kbit/s." in worse.text
    (better,) = against_opus(passages(zimtohrli=3.6))
    assert better.good
    assert better.text.startswith("Better than Opus at its rate by Zimtohrli MOS.")
    (by_mel,) = against_opus(passages(mel=0.4))
    assert by_mel.good
    assert "by mel distance" in by_mel.text
    (apart,) = against_opus(passages(kbit_per_second=100.0))
    assert not apart.good
    assert "is not compared with Opus, whose nearest row is at 20 kbit/s" in apart.text
    assert not [*against_opus({"passages": {"rows": summary["passages"]["rows"][:1]}})]
    assert not [*against_opus({})]


def test_the_verdict_is_on_files_where_there_are_any():
    summary = passages(zimtohrli=4.9)
    rows = summary["passages"]["rows"]
    rows.append(rows[0] | {"kind": "file", "kbit_per_second": 10.0, "zimtohrli": 2.6, "rate_of": "its bytes"})
    (found,) = against_opus(summary)
    assert not found.good
    assert "At 10 kbit/s, a file of this model against Opus" in found.text
    assert "means" not in found.text
    assert passages_table(summary)["files"]
    assert not passages_table(passages())["files"]


def test_the_page_says_whether_training_beats_the_linear_optimum():
    (found,) = against_linear(passages(si_sdr=16.0))
    assert found.good
    assert "better than the best linear code with as many values a second (2,880)" in found.text
    (found,) = against_linear(passages(si_sdr=14.0))
    assert not found.good
    assert "better in one measure" in found.text
    assert not [*against_linear(passages())]


def test_rows_of_codes_are_in_the_order_of_their_rates():
    found = passages_table(passages())
    assert [row["name"] for row in found["rows"]] == ["Opus 8.0", "this model", "Opus 20.0", "linear optimum"]
    assert [row["name"] for row in found["drawn"]] == ["this model", "Opus 8.0", "linear optimum"]
    assert found["bands"] == ["0 to 500", "500 to 1k"]
    assert len(found["charts"]) == 3
    assert passages_table({}) is None


@pytest.mark.parametrize("wrong", [None, [], {}, {"rows": [3]}, {"rows": [{"name": "x"}]}, {"rows": [{"kind": 3}]}])
def test_passages_of_a_stranger_are_checked(wrong):
    with pytest.raises(ValueError, match="passages"):
        check_passages(wrong)


def test_a_model_with_as_many_values_as_samples_has_no_linear_optimum():
    split = SimpleNamespace(rate=22050, channels=1, name="valid", manifest=SimpleNamespace(splits={}))
    engine = SimpleNamespace(share=lambda value: value)
    model = SimpleNamespace(code_size=0, latent_shapes=[(105, 21)], seconds=0.1)
    codes, linear_from, notes = comparing.yardstick_codes(engine, split, model, "data", [20.0, 40.0])
    assert {code.kind for code in codes} <= {"opus"}
    assert not codes or codes[-1].name == "Opus 40"
    assert not linear_from
    assert notes[-1].startswith("There is no linear optimum here, because the model has as many latent values")
