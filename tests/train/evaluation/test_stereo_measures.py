"""Measures and yardsticks of stereo: by channel, and of both channels together."""

import math
from types import SimpleNamespace
from unittest.mock import MagicMock

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from train.evaluation.measuring.heldout import to_audio
from train.evaluation.measuring.metrics import QUIET_DBFS, log_mel_error_high, measure, names_for
from train.evaluation.measuring.recordings import mono
from train.evaluation.yardsticks import comparing, linear
from train.evaluation.yardsticks.alignment import aligned
from train.evaluation.yardsticks.bands import band_errors
from train.evaluation.yardsticks.comparing import measure_passage
from train.evaluation.yardsticks.linear import principal, projected, second_moments
from train.evaluation.yardsticks.opus import opus
from train.evaluation.yardsticks.perceptual import measure_perceptual
from train.training.held_out.extra import heard

RATE = 22050


def stereo(seconds: float = 1.0, seed: int = 0) -> np.ndarray:
    """A tone in the middle and one on each side, with noise: [2, T] float32."""
    rng = np.random.default_rng(seed)
    t = np.arange(int(seconds * RATE)) / RATE
    middle, left, right = (np.sin(2 * np.pi * pitch * t + rng.uniform(0, 6)) for pitch in (220, 331, 499))
    return (0.2 * np.stack([middle + left, middle + right]) + 0.01 * rng.normal(size=(2, len(t)))).astype(np.float32)


def batch(*sounds: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.stack(sounds))


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=10, deadline=None)
def test_both_channels_count_alike_and_an_item_depends_on_itself(seed):
    target, noise = batch(stereo(0.2, seed), stereo(0.2, seed + 1)), torch.randn(2, 2, int(0.2 * RATE))
    output = target + 0.02 * noise
    found = measure(output, target, RATE)
    assert found.keys() == {*names_for(2)}
    exchanged = measure(output.flip(1), target.flip(1), RATE)
    for name, values in found.items():
        assert values.shape == (2,)
        other = {"left": "right", "right": "left"}.get(name.partition("_")[0])
        partner = exchanged[f"{other}_{name.partition('_')[2]}"] if other else exchanged[name]
        torch.testing.assert_close(values, partner, rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(measure(output[1:], target[1:], RATE)[name], values[1:], rtol=1e-3, atol=1e-4)


def test_a_mono_reconstruction_has_no_side():
    target = batch(stereo())
    found = {
        name: value.item() for name, value in measure(target.mean(1, True).expand_as(target), target, RATE).items()
    }
    assert found["mid_si_sdr"] > 60
    assert found["mid_mel"] < 1e-4
    assert found["mid_level"] == pytest.approx(0, abs=1e-4)
    assert found["side_si_sdr"] == -50
    side = (target[:, 0] - target[:, 1]).square().mean() / 2
    assert found["side_level"] == pytest.approx(QUIET_DBFS - 10 * math.log10(side), abs=0.1)
    assert 0 < found["si_sdr"] < 10


def test_a_mono_recording_has_no_ratio_of_its_side():
    target = batch(np.repeat(stereo()[:1], 2, axis=0))
    found = measure(target, target, RATE)
    assert found["side_si_sdr"].isnan().all()
    assert found["side_level"].item() == 0
    assert found["mid_si_sdr"].item() > 60


def test_mono_has_the_measures_of_mono_alone():
    target = batch(stereo()[:1])
    assert measure(target, target, RATE).keys() == {*names_for(1)}


def test_treble_of_either_channel_counts():
    target = batch(stereo())
    for channel in range(2):
        output = target.clone()
        output[:, channel] += 0.05 * torch.randn(target.shape[2])
        assert log_mel_error_high(output, target, RATE).item() > 0.1


def test_numbers_become_channels():
    numbers = torch.tensor([[1, -1, 2, -2, 3, -3]], dtype=torch.int16)
    assert torch.equal(to_audio(numbers, torch.device("cpu"), 2) * 32768, torch.tensor([[[1.0, 2, 3], [-1, -2, -3]]]))
    assert to_audio(numbers, torch.device("cpu")).shape == (1, 1, 6)


def test_opus_keeps_the_sides_apart():
    audio = stereo(2.0)
    coded = opus(audio, RATE, 64000)
    assert coded.audio.shape == audio.shape
    assert 1.5 * 64000 < coded.bits < 2.5 * 64000
    found = measure_passage(audio, coded.audio, RATE)
    assert found["si_sdr"] > 10
    assert abs(found["side_level"]) < 1


def test_the_linear_code_of_stereo_is_exact_with_all_values():
    audio = stereo()
    hop = 128
    moments = second_moments(batch(audio), hop)
    assert moments.shape == (2 * hop, 2 * hop)
    assert np.abs(projected(audio, principal(moments, 1.0)) - audio).max() < 1e-5
    few = [projected(audio, principal(moments, share)) for share in (0.05, 0.2)]
    errors = [np.square(one - audio).mean() for one in few]
    assert errors[0] > errors[1] > 0


def test_the_linear_optimum_has_as_many_values_as_the_model(monkeypatch):
    audio = batch(*(stereo(0.3, seed) for seed in range(4)))
    split = MagicMock(rate=RATE, samples=audio.shape[2], channels=2)
    split.__len__.return_value = len(audio)
    monkeypatch.setattr(comparing, "has_opus", lambda: False)
    monkeypatch.setattr(comparing, "open_windows", lambda *_: split)
    monkeypatch.setattr(linear, "read_audio", lambda _, chunks, __: audio[chunks])
    engine = SimpleNamespace(share=lambda value: value, everywhere=lambda make: make())
    model = SimpleNamespace(code_size=0, latent_shapes=[(16, 45)], seconds=1.0)
    codes, _, _ = comparing.yardstick_codes(engine, split, model, "", 5.0)
    assert codes[0].about["values_per_second"] == pytest.approx(16 * 45, rel=0.04)
    assert codes[0].run(stereo(0.3)).audio.shape == (2, audio.shape[2])


@pytest.mark.parametrize("delay", [0, 17])
def test_one_delay_is_found_from_both_channels(delay):
    audio = stereo()
    late = np.pad(audio, ((0, 0), (delay, 0)))[:, : audio.shape[1]]
    assert np.abs(aligned(audio, late, RATE)[:, :-100] - audio[:, :-100]).max() < 0.01


def test_bands_count_the_frames_of_both_channels():
    audio = stereo()
    louder = audio * np.array([[1.0], [2.0]], np.float32)
    found = band_errors(audio, louder, RATE)["level_bias"]
    assert np.nanmax(np.abs(found - 20 * math.log10(2) / 2)) < 0.5
    np.testing.assert_allclose(
        band_errors(audio[:1], audio[:1] * 2, RATE)["level_bias"],
        band_errors(audio[0], audio[0] * 2, RATE)["level_bias"],
    )


def test_hearing_is_measured_on_each_channel():
    pytest.importorskip("zimtohrli")
    audio = stereo()
    noisy = audio + np.array([[0.05], [0.0]], np.float32) * np.random.default_rng(1).normal(size=audio.shape)
    scores = [
        measure_perceptual(audio, one.astype(np.float32), RATE, False)["zimtohrli"]
        for one in (audio, noisy, np.stack([noisy[0], noisy[0]]))
    ]
    assert scores[0] > scores[1] > scores[2]
    silent = np.stack([audio[0], np.zeros_like(audio[0])])
    # A side that the model leaves out gets no better for it.
    assert np.isnan(measure_perceptual(audio, silent, RATE, False)["zimtohrli"])
    pair = [batch(one, silent) for one in (audio, silent)]
    assert heard(pair[0], pair[1], RATE).isnan().tolist() == [True, False]
    assert measure_perceptual(silent, silent, RATE, False)["zimtohrli"] > 4.5  # a silent channel has no score


def test_mono_of_a_recording():
    audio = stereo()
    assert np.array_equal(mono(audio[0]), audio[0])
    assert np.allclose(mono(audio), audio.mean(0))
