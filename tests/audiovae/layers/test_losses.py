import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_models import hard_signals, tones

from audiovae.layers.losses import USUAL_POWER, squared_error, stft_distance, stft_magnitude, weighted_error


def test_squared_error_is_the_mean_of_each_item():
    target = torch.zeros(2, 1, 4)
    output = torch.tensor([[[1.0, 1, 1, 1]], [[2.0, 0, 0, 0]]])
    assert squared_error(output, target).tolist() == [1.0, 1.0]
    assert squared_error(2 * output, target).tolist() == [4.0, 4.0]


@pytest.mark.parametrize("window", [128, 512])
def test_a_full_scale_sine_peaks_at_a_half(window):
    sine = torch.sin(2 * torch.pi * torch.arange(4096) / 16).unsqueeze(0)
    magnitude = stft_magnitude(sine, window)
    assert magnitude.shape == (1, window // 2 + 1, 4096 // (window // 4) + 1)
    inside = magnitude[0, :, 8:-8]
    assert inside.amax().item() == pytest.approx(0.5, rel=1e-3)
    assert (inside.argmax(0) == window // 16).all()


def test_stft_distance_of_the_same_is_zero_and_grows_with_noise():
    audio = tones(2)
    hiss = torch.randn_like(audio)
    distances = [stft_distance(audio + level * hiss, audio) for level in (0.0, 1e-3, 1e-2, 1e-1)]
    assert distances[0].tolist() == [0.0, 0.0]
    for nearer, farther in itertools.pairwise(distances):
        assert (nearer < farther).all()


def test_stft_distance_treats_each_item_alone():
    target, output = tones(3), tones(3, first_seed=50)
    alone = torch.cat([stft_distance(output[i : i + 1], target[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(stft_distance(output, target), alone)


@pytest.mark.parametrize("name", hard_signals())
@pytest.mark.parametrize("other", hard_signals())
def test_stft_distance_and_its_gradient_are_finite(name, other):
    output, target = hard_signals()[name].clone().requires_grad_(), hard_signals()[other]
    distance = stft_distance(output, target)
    distance.sum().backward()
    assert distance.isfinite().all()
    assert output.grad.isfinite().all()


def test_a_silent_item_weighs_about_as_much_as_a_loud_one():
    """With convergence relative to silence alone, one silent chunk would own the gradient of its batch."""
    target = torch.cat([tones(1), torch.zeros(1, 1, tones(1).shape[-1])])
    output = (target + 0.05 * torch.randn_like(target)).requires_grad_()
    distance = stft_distance(output, target)
    distance.sum().backward()
    loud, silent = output.grad.flatten(1).norm(dim=1)
    assert silent < 5 * loud
    assert distance[1] < 20


def test_stft_distance_is_computed_in_float32_under_autocast():
    target, output = tones(2), tones(2, first_seed=50)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(stft_distance(output, target), stft_distance(output, target))
        inside = stft_distance(output, target)
    assert torch.equal(inside, stft_distance(output, target))
    assert stft_distance(output.bfloat16(), target).dtype == torch.float32


@given(st.floats(0, 1), st.floats(0.05, 0.5))
def test_errors_in_white_noise_of_the_usual_power_count_as_squared_errors(exponent, share):
    generator = torch.Generator().manual_seed(0)
    target = USUAL_POWER**0.5 * torch.randn(2, 1, 22050, generator=generator)
    output = target + share * USUAL_POWER**0.5 * torch.randn(2, 1, 22050, generator=generator)
    found = weighted_error(output, target, exponent)
    # The power around a bin varies, and its inverse is larger than that of its mean.
    torch.testing.assert_close(found, squared_error(output, target), rtol=0.05 + 0.5 * exponent, atol=0)


@given(st.floats(0, 1), st.floats(0.1, 10))
def test_a_louder_signal_masks_more(exponent, factor):
    generator = torch.Generator().manual_seed(1)
    target, error = (0.1 * torch.randn(1, 1, 8192, generator=generator) for _ in range(2))
    quiet, loud = (weighted_error(k * target + 0.01 * error, k * target, exponent) for k in (1.0, factor))
    torch.testing.assert_close(loud, quiet * factor ** (-2 * exponent), rtol=0.02, atol=0)


def test_silence_has_finite_weights():
    output = torch.zeros(1, 1, 4096, requires_grad=True)
    weighted_error(output + 1e-3, torch.zeros(1, 1, 4096), 1.0).sum().backward()
    assert output.grad.isfinite().all()
