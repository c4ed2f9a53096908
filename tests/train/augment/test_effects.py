"""What the changes do to audio."""

from statistics import NormalDist

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from train.augment import effects

RATE = 22050


def tone(hertz: float, samples: int = 22050) -> torch.Tensor:
    return torch.sin(2 * torch.pi * hertz * torch.arange(samples, dtype=torch.float64) / RATE).float()


def level(audio: torch.Tensor) -> torch.Tensor:
    return 20 * audio.square().mean(1).sqrt().log10()


def test_white_noise_is_white_normal_and_different_for_each_row():
    noise = effects.white_noise(torch.tensor([0, 1, -5, 2**62]), 40_000).double()
    assert noise.mean(1).abs().max() < 0.02
    assert noise.std(1).sub(1).abs().max() < 0.02
    kurtosis = noise.pow(4).mean(1) / noise.var(1).square()
    assert kurtosis.tolist() == pytest.approx([3] * 4, abs=0.15)
    assert torch.corrcoef(noise).sub(torch.eye(4)).abs().max() < 0.03
    power = torch.fft.rfft(noise).abs().square()[:, 1:-1].reshape(4, 7, -1).mean(2) / 40_000
    assert power.numpy() == pytest.approx(np.ones((4, 7)), abs=0.1)


def test_white_noise_is_that_of_the_published_hash():
    """The first samples of the row 0 are the 16-bit parts of the first number of SplitMix64 from the state 0."""
    number = 0xE220A8397B1DCDAF
    parts = [(number >> shift & 0xFFFF) + 0.5 for shift in (0, 16, 32, 48)]
    shares = [(part + 0x8000) % 0x10000 / 0x10000 for part in parts]  # the table begins with negative numbers
    expected = [NormalDist().inv_cdf(share) for share in shares]
    assert effects.white_noise(torch.tensor([0]), 7)[0, :4].tolist() == pytest.approx(expected)


@given(st.integers(-(2**63), 2**63 - 1), st.integers(1, 50), st.integers(0, 30))
def test_white_noise_begins_alike_at_any_length(bits, samples, more):
    longer = effects.white_noise(torch.tensor([bits]), samples + more)
    assert torch.equal(longer[:, :samples], effects.white_noise(torch.tensor([bits]), samples))


def test_lowpass_keeps_what_is_below_and_removes_what_is_above():
    audio = torch.stack([tone(500), tone(2000), tone(4000), tone(9000)])
    found = effects.lowpass(audio, torch.full((4,), 2000.0), RATE)
    change = level(found[:, 2000:-2000]) - level(audio)
    assert change[:3].tolist() == pytest.approx([0, -3.01, -48.2], abs=0.2)
    assert change[3] < -80
    beyond = effects.lowpass(audio, torch.full((4,), 10.0 * RATE), RATE)
    assert beyond == pytest.approx(audio, abs=1e-4)


def test_lowpass_shifts_nothing_and_has_each_row_its_cutoff():
    audio = torch.stack([tone(500) + tone(6000)] * 2)
    found = effects.lowpass(audio, torch.tensor([1500.0, 20_000.0]), RATE)
    assert found[0, 300:-300] == pytest.approx(tone(500)[300:-300], abs=1e-3)
    assert found[1] == pytest.approx(audio[1], abs=1e-3)


@pytest.mark.parametrize("samples", [1, 2, 5, 700])
def test_lowpass_takes_short_audio(samples):
    audio = torch.ones(3, samples)
    assert effects.lowpass(audio, torch.tensor([100.0, 1000.0, 10_000.0]), RATE) == pytest.approx(audio, abs=1e-4)


@given(st.integers(1, 10**6))
def test_a_fast_length_has_small_factors_and_is_near(least):
    found = effects.fast_length(least)
    assert least <= found < 1.13 * least + 1
    for factor in (2, 3, 5):
        while found % factor == 0:
            found //= factor
    assert found == 1


def test_the_end_of_a_chunk_does_not_reach_its_beginning():
    audio = torch.zeros(1, 22050)
    audio[0, -50:] = 1
    assert effects.lowpass(audio, torch.tensor([800.0]), RATE)[0, :5000].abs().max() < 1e-4


def test_noise_is_added_at_its_ratio_and_not_to_silence():
    audio = torch.stack([tone(300), 0.01 * tone(300), torch.zeros(22050)])
    noise = effects.white_noise(torch.tensor([1, 2, 3]), 22050)
    added = effects.with_noise(audio, noise, torch.tensor([10.0, 100.0, 10.0])) - audio
    assert (level(audio) - level(added))[:2].tolist() == pytest.approx([20, 40], abs=0.1)
    assert not added[2].any()


@given(st.lists(st.floats(-9, 9, width=32), min_size=1, max_size=9))
def test_audio_above_full_scale_is_scaled_and_the_rest_stays(values):
    audio = torch.tensor([values, [0.9] * len(values), [-1.0] * len(values)])
    found = effects.fitted(audio)
    assert found.abs().max() <= 1
    assert torch.equal(found[1:], audio[1:])
    peak = max(1.0, *map(abs, values))
    assert (found[0] * peak).tolist() == pytest.approx(values, rel=1e-5, abs=1e-6)
