"""An HVAE whose levels set the scale of the finest latents, and a VAE with latents relative to that scale."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_models import CONFIGS, RATE, SAMPLES, SCALED, TRUNK, awake, coloured, noise, settings_of, si_sdr, tones

import audiovae
from audiovae.layers.gaussian import kl_to_standard
from audiovae.layers.latent_scale import LatentScale, overlapped, power_rows
from audiovae.layers.losses import USUAL_POWER
from audiovae.layers.whitening import Whitening

ROOM = {"trunk": TRUNK | {"channels": [32, 128], "whiten": True}}
BANDS = {"bands": 8, "lowest": 0.0, "fill_from": 20000.0}
WIDE = {
    "hvae": ROOM | {"latents": [105, 16, 8], "levels": BANDS},
    "vae": ROOM | {"latent": 105, "levels": BANDS | {"latents": 8}},
}


def wide(kind: str = SCALED[0]) -> audiovae.Autoencoder:
    """Untrained, with room for all bands, calibrated on eight plucked strings; in evaluation mode."""
    torch.manual_seed(0)
    family = kind.partition(" ")[0]
    model = audiovae.build(family, settings_of(kind) | WIDE[family], SAMPLES, RATE).eval()
    model.calibrate([tones(8)])
    return model


def bursts(items: int, seed: int = 0) -> torch.Tensor:
    """Noise whose upper bands are quieter, and which is loud and soft in turn, [items, 1, SAMPLES]."""
    noise = coloured(items, 1, slope=8, seed=seed)
    return 0.1 * noise * torch.linspace(-3, 0, 8).exp().repeat_interleave(-(-SAMPLES // 8))[:SAMPLES]


@given(latents=st.integers(1, 40), phases=st.integers(1, 4), bands=st.integers(1, 9), channels=st.integers(1, 2))
def test_the_rows_mix_the_two_nearest_bands(latents, phases, bands, channels):
    centres = [(band + 0.5) / bands * RATE / 2 for band in range(bands)]
    rows = power_rows(latents, [12, phases], RATE, centres, channels)
    known = min(latents, 12 * channels * phases)
    torch.testing.assert_close(rows[:known].sum(1), torch.ones(known))
    assert (rows[known:] == 0).all()
    assert (rows >= 0).all()
    for latent in range(known):
        band, audio = divmod(latent // phases, channels)
        assert (rows[latent].view(channels, bands)[1 - audio if channels == 2 else 1 :] == 0).all() or audio
        found = rows[latent].view(channels, bands)[audio] @ torch.tensor(centres)
        frequency = min(max((band + 0.5) / 12 * RATE / 2, centres[0]), centres[-1])
        assert found.item() == pytest.approx(frequency, rel=1e-4)


@given(level=st.floats(-12, 2), masking=st.floats(0, 1), snr=st.floats(0, 40), gain=st.floats(0.1, 100))
def test_the_noise_follows_the_level_to_the_masking(level, masking, snr, gain):
    whitening = Whitening(2)
    whitening.gain.fill_(gain)
    scale = LatentScale(torch.ones(4, 1), 6, 2, masking, snr, causal=True)
    power, ratio = scale(torch.full((1, 1, 3), level), whitening)
    assert power.shape == ratio.shape == (1, 4, 6)
    assert power.mean().item() == pytest.approx(level + 2 * math.log(gain), abs=1e-4)
    # Noise power: usual * 10^(-snr / 10) at the usual power, times (level / usual)^masking.
    noise_power, usual = level + ratio.mean().item(), math.log(USUAL_POWER)
    expected = usual - snr / 10 * math.log(10) + masking * (level - usual)
    assert noise_power == pytest.approx(expected, abs=1e-3)


@given(levels=st.lists(st.floats(-60, 4), min_size=1, max_size=6))
def test_levels_reach_into_the_frames_beside_them(levels):
    found = overlapped(torch.tensor(levels).view(1, 1, -1)).flatten()
    for place, value in enumerate(found.tolist()):
        beside = [levels[i] for i in (place - 1, place + 1) if 0 <= i < len(levels)]
        expected = math.exp(max(levels[place], -20)) + 0.05 * sum(math.exp(max(one, -20)) for one in beside)
        assert value == pytest.approx(math.log(expected), abs=1e-4)


def test_levels_pass_through_the_latents_before_any_training():
    model = wide()
    target = model.represent(tones(4, first_seed=50))
    with torch.no_grad():
        _, levels = model.descend(4, None, model.features(target))
    error = (levels[1].bands - model.levels.measure(target)).square().mean()
    assert error < 0.02  # of a variance of about 1


def test_sounds_of_another_kind_hardly_change_the_levels_of_an_hvae():
    """Features of the trunk reach the latents that carry levels, so they are bounded however loud a band is."""
    model = awake(SCALED[0]).eval()
    with torch.no_grad():
        first = model.features(model.represent(tones(2)))[1:]
        model.encoder.whitening.gain.mul_(1e6)
        for weak, strong in zip(first, model.features(model.represent(tones(2)))[1:], strict=True):
            assert (weak - strong).square().mean(1).sqrt().max() < 2.1


@pytest.mark.parametrize("kind", SCALED)
def test_zero_latents_are_silence_before_any_training(kind):
    """A bias in any layer on the way would be a tone that hundreds of steps have to remove."""
    model = wide(kind)
    latents = [torch.zeros(1, *shape) for shape in model.latent_shapes]
    with torch.no_grad():
        assert model.decode(model.from_tensors(latents)).abs().max() < 1e-5


@pytest.mark.parametrize("kind", SCALED)
def test_an_untrained_model_is_a_transform_codec(kind):
    """Louder bands get more decibels, and drawn latents do not cost more than the bits of the noise that they have."""
    model, audio = wide(kind), bursts(6)
    model.calibrate([bursts(8, seed=1)])
    target = model.represent(audio)
    with torch.no_grad():
        means, drawn = model.reconstruct(audio), model.render(model(target, noise(6)).recon)
        if kind.startswith("hvae"):
            finest = model.descend(6, noise(6), model.features(target))[1][0]
            spent, ratio = finest.divergence(), finest.log_scale
        else:
            mean, ratio, *_ = model._whole_posterior(target, model.encoder(target), noise(6).normal(113, 21))
            spent = kl_to_standard(mean, ratio)
    assert si_sdr(means, audio).mean() > 15
    assert si_sdr(drawn, audio).mean() > 10
    ideal = -0.5 * ratio[:, :105].sum((1, 2))
    assert spent[:, :105].sum((1, 2)).mean() < 1.3 * ideal.mean()


@pytest.mark.parametrize("kind", SCALED)
def test_values_of_a_file_are_in_steps_of_their_own_noise(kind):
    model, audio = awake(kind).eval(), tones(2)
    widths = []

    def means(index, mean, log_variance):
        if index == 0:
            widths.append(log_variance[:, :48])
        return mean

    with torch.no_grad():
        values = model.encode_relative(audio, means)
        torch.testing.assert_close(model.decode_relative(values), model.reconstruct(audio), rtol=1e-4, atol=1e-4)
    assert (widths[0] == 0).all()


def test_a_vae_takes_the_scale_from_the_levels_that_are_sent():
    """Levels that the quantiser moves change the scale of what follows, for the encoder as for the decoder."""
    model, audio = wide("vae scaled by levels"), bursts(4)
    model.calibrate([bursts(8, seed=1)])

    def coarse(index, mean, log_variance):
        return torch.cat([mean[:, :105], mean[:, 105:].round()], 1)

    with torch.no_grad():
        values = model.encode_relative(audio, coarse)[0]
        sent = model.decode_relative([values])
        far = model.encode_relative(audio, lambda _, mean, __: mean)[0]
    assert (values[:, 105:] - values[:, 105:].round()).abs().max() == 0
    assert (values[:, :105] - far[:, :105]).abs().max() > 0.1
    assert si_sdr(sent, audio).mean() > 15


def test_latents_of_a_vae_are_relative_to_the_scale():
    """Their prior is N(0, I) at any loudness, so loud and soft recordings have latents of one spread."""
    model = wide("vae scaled by levels")
    model.calibrate([bursts(8, seed=1)])
    with torch.no_grad():
        loud, soft = (model.encode(gain * bursts(6))[:, :8].std() for gain in (1.0, 0.1))
    assert 0.5 < loud < 1.5
    assert soft / loud == pytest.approx(1, abs=0.3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"levels": {"bands": 0}}, "scale_by_levels is true, but there are no levels"),
        ({"start_snr": -1.0}, "start_snr is -1.0: choose 0 to 60 dB"),
        ({"latents": [65, 16, 8]}, "65 latents next to the trunk: with scale_by_levels at most 64"),
        (
            {"trunk": {"strides": [5, 3, 7], "channels": [8, 12, 99]}, "latents": [100, 16, 8]},
            "with scale_by_levels at most 84",
        ),
        ({"trunk": TRUNK | {"start": "random"}}, "it needs trunk.start transform"),
        ({"representation": {"masking": 1.5}}, "representation.masking is 1.5: choose 0 to 1"),
        (
            {"representation": {"kind": "mel", "masking": 0.5}, "levels": {"bands": 0}},
            "masking needs representation.kind",
        ),
    ],
)
def test_settings_that_do_not_fit_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        audiovae.build("hvae", settings_of(SCALED[0]) | changes, SAMPLES, RATE)


def test_one_thing_sets_the_scale_of_latents():
    with pytest.raises(ValueError, match="scale_by_levels and batch_norm both set"):
        audiovae.build("vae", settings_of("vae scaled by levels") | {"batch_norm": True}, SAMPLES, RATE)


@pytest.mark.parametrize("family", ["hvae", "vae"])
def test_models_without_it_have_the_tensors_that_they_had(family):
    names = audiovae.build(family, CONFIGS[family], SAMPLES, RATE).state_dict().keys()
    assert not any("scale" in name.replace("log_scale", "") for name in names)
