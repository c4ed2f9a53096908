"""Gains that give the bands of the first layer one power."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_models import CONFIGS, RATE, SAMPLES, TRUNK, coloured, si_sdr

import audiovae
from audiovae.layers.transforms import lapped_cosines
from audiovae.layers.whitening import QUIETEST, Whitening, fit_whitening, whitenings

STRIDE = TRUNK["strides"][0]


def towers(channels: int) -> torch.nn.Sequential:
    return torch.nn.Sequential(Whitening(channels), Whitening(channels))


@given(slope=st.floats(0, 10), channels=st.integers(1, 2), seed=st.integers(0, 99))
def test_all_bands_get_the_same_power(slope, channels, seed):
    model, audio = towers(STRIDE * channels + 5), coloured(16, channels, slope, seed)
    fit_whitening(model, audio.split(6), STRIDE, causal=False)
    kernel = lapped_cosines(STRIDE).unsqueeze(1).repeat_interleave(channels, 0)
    # Layer channel b * C + c carries band b of audio channel c.
    layer = torch.zeros(STRIDE * channels, channels, 2 * STRIDE)
    layer[torch.arange(len(layer)), torch.arange(len(layer)) % channels] = kernel.squeeze(1)
    bands = torch.nn.functional.conv1d(audio, layer, stride=STRIDE)
    power = (model[0].gain[: len(layer)] * bands).square().mean((0, 2))
    torch.testing.assert_close(power, torch.ones_like(power), rtol=0.02, atol=0)
    torch.testing.assert_close(model[0].gain[: len(layer)] * model[1].gain[: len(layer)], torch.ones(len(layer), 1))
    assert (model[0].gain[len(layer) :] == 1).all()


def test_silence_is_not_raised_without_bounds():
    model = towers(STRIDE)
    fit_whitening(model, [torch.zeros(2, 1, SAMPLES)], STRIDE, causal=False)
    torch.testing.assert_close(model[0].gain, torch.full((STRIDE, 1), 1 / QUIETEST))


@pytest.mark.parametrize("family", ["vae", "hvae"])
@pytest.mark.parametrize("causal", [False, True])
def test_high_bands_pass_a_whitened_model_before_any_training(family, causal):
    """Wide enough for all bands, it reproduces what is 50 dB below the loudest band; without whitening, noise does."""
    trunk = TRUNK | {"channels": [32, 128], "whiten": True, "causal": causal}
    wide = {"latent": 105} if family == "vae" else {"latents": [105, 16, 8]}
    torch.manual_seed(0)
    model = audiovae.build(family, CONFIGS[family] | wide | {"trunk": trunk}, SAMPLES, RATE).eval()
    audio = coloured(8, 1, 2 * math.log(10**5) / 2)
    audio = 0.5 * audio / audio.abs().max()
    model.calibrate([audio])
    output = model.reconstruct(audio)
    high = [torch.fft.rfft(signal)[..., SAMPLES // 4 :] for signal in (output, audio)]
    error = (high[0] - high[1]).abs().square().sum() / high[1].abs().square().sum()
    assert error < 0.1
    assert si_sdr(output, audio).min() > 20


def test_gains_are_calibration_and_travel_with_weights():
    config = CONFIGS["vae"] | {"trunk": TRUNK | {"whiten": True}}
    model = audiovae.build("vae", config, SAMPLES, RATE)
    model.calibrate([coloured(4, 1, 5)])
    first, second = whitenings(model)
    assert {first.gain.data_ptr(), second.gain.data_ptr()} <= {buffer.data_ptr() for buffer in model.calibrated()}
    other = audiovae.build("vae", config, SAMPLES, RATE)
    other.load_state_dict(model.state_dict())
    assert torch.equal(whitenings(other)[0].gain, first.gain)
    assert not any("whitening" in name for name in audiovae.build("vae", CONFIGS["vae"], SAMPLES, RATE).state_dict())


@pytest.mark.parametrize(
    "changes", [{"representation": {"kind": "mel"}}, {"trunk": TRUNK | {"whiten": True, "start": "random"}}]
)
def test_whitening_needs_a_waveform_that_begins_as_a_transform(changes):
    with pytest.raises(ValueError, match=r"trunk\.whiten is true"):
        audiovae.build("vae", CONFIGS["vae"] | {"trunk": TRUNK | {"whiten": True}} | changes, SAMPLES, RATE)
