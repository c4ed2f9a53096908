"""Levels of the upper bands: what is measured, what fills the bands, and noise that follows from the position."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_models import CONFIGS, LEVELED, RATE, SAMPLES, awake, make, noise, tones

import audiovae
from audiovae.layers.level_latents import LevelPyramid
from audiovae.layers.levels import BandLevels, LevelsConfig, band_edges, fold, noise_at, unfold
from audiovae.models.vae import VAEConfig

BANDS, FRAMES, LONG = 8, 45, 22050
EXPECTED = [[1.492129, 0.367608, 1.091673], [1.12203, 0.890802, 1.42211], [-0.852462, 0.125719, 0.556152]]


def second_of_levels() -> BandLevels:
    return BandLevels(LevelsConfig(BANDS), LONG, FRAMES, RATE)


def white(seed: int, deviation: float = 0.1) -> torch.Tensor:
    return deviation * torch.randn(1, 1, LONG, generator=torch.Generator().manual_seed(seed))


def in_nepers(levels: BandLevels, normalised: torch.Tensor) -> torch.Tensor:
    return normalised * levels.std + levels.mean


@given(deviation=st.floats(1e-3, 0.5))
def test_the_level_of_white_noise_is_its_power(deviation):
    levels = second_of_levels()
    found = in_nepers(levels, levels.measure(white(0, deviation)))
    torch.testing.assert_close(found.exp().mean(2), torch.full((1, BANDS), deviation**2), rtol=0.2, atol=0)


@given(seed=st.integers(0, 100), steps=st.lists(st.floats(-12, -3), min_size=BANDS, max_size=BANDS))
def test_silence_is_filled_up_to_the_levels(seed, steps):
    levels = second_of_levels()
    wanted = ((torch.tensor(steps).view(1, -1, 1) - levels.mean) / levels.std).expand(1, -1, FRAMES)
    audio = levels.fill(torch.zeros(1, 1, LONG), wanted, noise(1, seed))
    # Without the frames at both ends, of which a half is missing.
    found = in_nepers(levels, levels.measure(audio))[..., 1:-1].exp().mean(2).log()
    torch.testing.assert_close(found, torch.tensor([steps]), atol=0.2, rtol=0)


def test_what_has_its_level_already_stays_and_what_is_too_loud_is_turned_down():
    levels, audio = second_of_levels(), white(1)
    own = levels.measure(audio)
    assert (levels.fill(audio, own) - audio).square().mean() < 1e-3 * audio.square().mean()
    quieter = levels.fill(audio, own - 4 / levels.std)
    found = levels.measure(quieter)[..., 1:-1].mean()
    assert (found - own[..., 1:-1].mean()) * levels.std.mean() == pytest.approx(-4, abs=0.5)


def test_low_tones_pass_unchanged():
    levels = second_of_levels()
    tone = torch.sin(2 * math.pi * 440 * torch.arange(LONG) / RATE).view(1, 1, -1)
    error = levels.fill(tone, levels.measure(tone)) - tone
    assert error.square().mean() < 1e-4 * tone.square().mean()


def test_fill_passes_gradients_to_the_trunk_alone():
    levels = second_of_levels()
    audio, wanted = white(2).requires_grad_(), torch.zeros(1, BANDS, FRAMES, requires_grad=True)
    levels.fill(audio, wanted).square().sum().backward()
    assert audio.grad is not None
    assert audio.grad.isfinite().all()
    assert wanted.grad is None


@given(first=st.integers(0, 1 << 19), count=st.integers(1, 98), skip=st.integers(0, 30))
def test_noise_follows_from_the_position(first, count, skip):
    positions = first + torch.arange(40)
    values = noise_at(positions, count)
    assert torch.equal(noise_at(positions[skip:], count), values[skip:])
    assert values.abs().max() <= 3**0.5


def test_noise_is_white():
    values = noise_at(torch.arange(2000), 60)
    assert abs(values.mean().item()) < 0.01
    assert values.square().mean().item() == pytest.approx(1, abs=0.01)
    for other in (values.roll(1, 0), values.roll(1, 1), values.roll((1, 1), (0, 1))):
        assert abs((values * other).mean().item()) < 0.01
    # Old files must sound the same for ever.
    expected = torch.tensor(EXPECTED)
    torch.testing.assert_close(noise_at(torch.tensor([0, 1, 100_000]), 3), expected, rtol=0, atol=1e-6)


@given(items=st.integers(1, 3), channels=st.integers(1, 4), hold=st.integers(1, 4), frames=st.integers(1, 5))
def test_folding_is_undone(items, channels, hold, frames):
    parts = torch.randn(items, channels * hold, frames)
    folded = fold(parts, hold)
    assert folded.shape == (items, channels, frames * hold)
    assert torch.equal(unfold(folded, hold), parts)
    assert torch.equal(folded[:, 0, :hold], parts[:, :hold, 0])


def test_the_pyramid_means_what_each_stage_can_say():
    pyramid, levels = LevelPyramid(2, [6, 5], [4, 2]), torch.arange(8.0).view(1, 2, 4)
    assert [mean.tolist() for mean in pyramid.at_each(levels)] == [levels.tolist(), [[[0.5, 2.5], [4.5, 6.5]]]]
    states = torch.zeros(1, 6, 4), torch.zeros(1, 5, 2)
    coarse = pyramid.read(1, states[1], None)
    torch.testing.assert_close(
        pyramid.read(0, states[0], coarse + 1) - pyramid.read(0, states[0], coarse), torch.ones(1, 2, 4)
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"levels": {"bands": 60}}, "levels.bands is 60: from 1500 Hz up some would be empty; choose fewer"),
        ({"levels": {"bands": 4, "lowest": 12000.0}}, "levels.lowest is 12000: choose less than half the sample rate"),
        ({"levels": {"bands": 4, "hold": 2}}, "levels.hold is 2: it does not divide 21 latent frames"),
        ({"levels": {"bands": -1}}, "levels.bands is -1"),
        ({"levels": {"bands": 4}, "pooled": True}, "levels need representation.kind waveform and latents along time"),
        ({"levels": {"bands": 4}, "representation": {"kind": "mel"}}, "levels need representation.kind waveform"),
    ],
)
def test_settings_that_do_not_fit_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        audiovae.build("vae", CONFIGS["vae"] | changes, SAMPLES, RATE)


def test_edges_rise_to_half_the_rate():
    edges = band_edges(12, 1500.0, 98, RATE)
    assert edges[-1] == 98
    assert edges[0] == round(1500 / (RATE / 2) * 98)


def test_models_without_levels_have_none_of_their_tensors():
    assert VAEConfig().levels.bands == 0
    assert make("vae").state_dict().keys() == {
        name for name in make("vae with levels").state_dict() if "level" not in name
    }


@pytest.mark.parametrize("family", LEVELED)
def test_a_saved_model_gives_the_same_audio_bit_for_bit(family, tmp_path):
    model = awake(family).eval()
    model.calibrate([tones(4)])
    audiovae.save(model, tmp_path)
    loaded, audio = audiovae.load(tmp_path), tones(2)
    assert torch.equal(loaded.reconstruct(audio), model.reconstruct(audio))
    torch.testing.assert_close(model.reconstruct(audio[1:]), model.reconstruct(audio)[1:], rtol=0, atol=1e-5)


def test_parts_of_a_recording_have_the_same_noise_where_they_overlap():
    levels, wanted = second_of_levels(), torch.zeros(1, BANDS, FRAMES)
    audio = torch.zeros(1, 1, LONG)
    early = levels.fill(audio, wanted)
    levels.start = 20 * levels.hop * levels.times
    late = levels.fill(audio, wanted)
    edge = 2 * levels.hop * levels.times  # the first frames of the later part lack what comes before
    torch.testing.assert_close(late[..., edge : LONG - levels.start - edge], early[..., levels.start + edge : -edge])


def test_a_model_made_without_memory_fills_the_same_once_it_has_weights():
    model = awake("vae with levels").eval()
    with torch.device("meta"):
        other = audiovae.build("vae", model.config, SAMPLES, RATE)
    other.load_state_dict(model.state_dict(), assign=True)
    assert torch.equal(other.eval().reconstruct(tones(1)), model.reconstruct(tones(1)))


def test_codes_of_levels_alone_are_noise_at_these_levels():
    model = awake("vqvae with levels").eval()
    codes = model.encode(tones(2))
    whole, levels = model.decode(codes), model.decode(codes[:, :1])
    assert levels.isfinite().all()
    assert not torch.equal(whole, levels)


def test_use_of_codes_names_the_rows_in_their_order():
    model = awake("vqvae with levels")
    usage = model.usage()
    assert list(usage) == ["levels_0", "0", "1", "2", "3"]
    assert len(usage) == model.latent_shapes[0][0]
    assert all(share.sum().item() == pytest.approx(1, abs=1e-4) for share in usage.values())


def test_the_level_codebooks_follow_the_data():
    model = awake("vqvae with levels", size=6)
    for step in range(21, 31):
        model.update(model(tones(8), noise(8)).statistics, step)
    spread = model.levels.measure(tones(8)).var((0, 2)).mean()
    assert model(tones(8), noise(8)).metrics["levels_error"] < 0.2 * spread
