"""The mel spectrogram as representation: lengths, statistics, what can be heard of it, and all families on it."""

import contextlib
import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from tiny_models import CONFIGS, FAMILIES, RATE, SAMPLES, all_terms, gradients, hard_signals, noise, tones

import audiovae
from audiovae.layers.representation import LEVEL, Mel, RepresentationConfig, Waveform
from audiovae.layers.spectra import log_mel, mel_distance, mel_filters
from audiovae.layers.trunk import downsample, start_as_band_cosines, upsample

# 2,205 samples are 36 frames, padded to 42: strides of 7, 3 and 2.
MEL = {"kind": "mel", "bands": 40, "n_fft": 512, "hop": 62, "multiple": 42, "iterations": 4}
TRUNKS = {"vae": [3, 2], "hvae": [2], "vqvae": [2]}


def make(family: str, **changes: object):
    trunk = {"strides": TRUNKS[family], "channels": [48, 64][: len(TRUNKS[family])], "blocks": 1, "kernel": 3}
    torch.manual_seed(0)
    config = {**CONFIGS[family], "trunk": trunk, "representation": MEL, **changes}
    return audiovae.build(family, config, SAMPLES, RATE)


@settings(max_examples=40, deadline=None)
@given(samples=st.integers(600, 3000), hop=st.integers(16, 128), multiple=st.integers(1, 12))
def test_frames_cover_the_chunk_and_are_a_multiple(samples, hop, multiple):
    config = RepresentationConfig("mel", 20, 512, hop, multiple, 1)
    try:
        mel = Mel(config, samples, RATE)
    except ValueError as error:
        assert "representation.multiple" in str(error)  # noqa: PT017
        return
    assert mel.frames % multiple == 0
    assert samples <= mel.frames * hop < samples + hop * multiple
    audio = torch.randn(2, 1, samples)
    assert mel.represent(audio).shape == (2, 20, mel.frames)
    assert mel.render(mel.represent(audio)).shape == audio.shape


def test_a_second_is_90_frames_of_256_bands():
    assert Mel(RepresentationConfig("mel"), 22050, 22050).represent(torch.zeros(1, 1, 22050)).shape == (1, 256, 90)
    assert Mel(RepresentationConfig("mel", hop=256, multiple=9), 22050, 22050).frames == 90


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hop": 0}, "representation.hop is 0"),
        ({"hop": 200}, "representation.hop is 200: at most a quarter"),
        ({"n_fft": 8192}, "representation.n_fft is 8192: too long"),
        ({"bands": 400}, "representation.bands: 400 mel bands leave some empty"),
        ({"multiple": 500}, "representation.multiple is 500"),
        ({"multiple": 5}, "3 does not divide 40 frames.*representation.multiple"),
        ({"kind": "fourier"}, "representation.kind is fourier"),
    ],
)
def test_shapes_that_do_not_fit_are_refused_by_name(changes, message):
    with pytest.raises(ValueError, match=message):
        make("vae", representation={**MEL, **changes})


@pytest.mark.parametrize("bands", [40, 80, 256])
def test_filters_are_means_and_none_is_empty(bands):
    filters = mel_filters(bands, 2048, 22050)
    assert filters.shape == (bands, 1025)
    assert filters.min() >= 0
    torch.testing.assert_close(filters.sum(1), torch.ones(bands))


@settings(max_examples=20, deadline=None)
@given(gain=st.floats(0.1, 1.0))
def test_the_distance_of_levels_is_their_logarithm(gain):
    audio = 0.3 * torch.randn(2, 1, 4096, generator=torch.Generator().manual_seed(0))
    expected = -torch.tensor(gain).log()
    torch.testing.assert_close(mel_distance(gain * audio, audio, RATE), expected.expand(2), atol=1e-3, rtol=0)
    assert mel_distance(audio, audio, RATE).max() == 0


def test_calibration_normalises_the_data_however_they_come():
    audio = 0.3 * torch.randn(6, 1, SAMPLES) * torch.linspace(0.1, 1, 6).view(-1, 1, 1)
    config = RepresentationConfig(**{**MEL, "multiple": 1})
    one, parts = Mel(config, SAMPLES, RATE), Mel(config, SAMPLES, RATE)
    one.calibrate([audio])
    parts.calibrate(iter(audio.split([1, 3, 2])))
    assert torch.equal(one.mean, parts.mean)
    assert torch.equal(one.std, parts.std)
    values = one.represent(audio)
    torch.testing.assert_close(values.mean((0, 2)), torch.zeros(40), atol=1e-4, rtol=0)
    torch.testing.assert_close(values.std((0, 2), unbiased=False), torch.ones(40), atol=1e-3, rtol=0)
    before = one.mean.clone()
    one.calibrate([])
    assert torch.equal(one.mean, before)
    one.calibrate([torch.zeros(1, 1, SAMPLES)])
    assert one.represent(torch.zeros(1, 1, SAMPLES)).abs().max() < 1e-3
    assert one.represent(audio).isfinite().all()


@settings(max_examples=30, deadline=None)
@given(level=st.floats(-80, 10))
def test_however_loud_the_data_are_the_trunk_sees_the_same(level):
    audio = 10 ** (level / 20) * torch.randn(6, 1, SAMPLES, generator=torch.Generator().manual_seed(0))
    waveform = Waveform(SAMPLES)
    waveform.calibrate(iter(audio.split([1, 3, 2])))
    seen = waveform.represent(audio)
    assert seen.square().mean().sqrt().item() == pytest.approx(LEVEL, rel=1e-5)
    torch.testing.assert_close(waveform.render(seen), audio)


@pytest.mark.parametrize("batches", [[], [torch.zeros(2, 1, SAMPLES)]])
def test_without_any_sound_there_is_no_gain(batches):
    waveform = Waveform(SAMPLES)
    waveform.calibrate(batches)
    assert waveform.gain == 1


def test_what_is_rendered_has_the_spectrum_and_is_the_same_each_time():
    model = make("vae")
    audio = tones(2)
    mel = model.represent(audio)
    heard = model.render(mel)
    assert heard.shape == audio.shape
    assert torch.equal(heard, model.render(mel))
    assert (mel_distance(heard, audio, RATE) < 0.35 * mel_distance(torch.zeros_like(audio), audio, RATE)).all()


def test_bf16_autocast_leaves_mel_and_sound_in_float32():
    model, audio = make("vae"), tones(1)
    mel = model.represent(audio)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(model.represent(audio), mel)
        assert torch.equal(model.render(mel), model.render(mel.float()))
        assert model.reconstruct(audio).dtype == torch.float32
        assert model.distances(mel.bfloat16(), mel)["stft"].dtype == torch.float32


def test_distances_are_in_their_units():
    model = make("vae")
    model.calibrate([tones(4)])
    mel = model.represent(tones(2))
    shifted = mel + 0.5 / model.representation.std
    terms = model.distances(shifted, mel)
    torch.testing.assert_close(terms["stft"], torch.full((2,), 0.5))
    torch.testing.assert_close(terms["mse"], (0.5 / model.representation.std).square().mean().expand(2))


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_trains_on_it(family, precision):
    model = make(family)
    model.calibrate([tones(6)])
    audio = torch.cat([tones(1), *hard_signals().values()])
    target = model.represent(audio)
    here = torch.autocast("cpu", dtype=torch.bfloat16) if precision == "bfloat16" else contextlib.nullcontext()
    with here:
        output = model(target, noise(len(audio)))
    terms = all_terms(model, output, target)
    assert {"mse", "stft"} <= set(terms)
    assert all(term.shape == (len(audio),) and term.isfinite().all() for term in terms.values())
    sum(term.sum() for term in terms.values()).backward()
    assert all(grad.isfinite().all() for grad in gradients(model).values())
    model.eval()
    assert model.reconstruct(audio).shape == audio.shape
    assert model.reconstruct(audio).isfinite().all()
    assert model.sample(2).shape == (2, 1, SAMPLES)


@pytest.mark.parametrize("family", FAMILIES)
def test_statistics_travel_with_the_model(family, tmp_path):
    model = make(family).eval()
    model.calibrate([tones(4)])
    audiovae.save(model, tmp_path)
    loaded = audiovae.load(tmp_path)
    assert torch.equal(loaded.representation.mean, model.representation.mean)
    assert torch.equal(loaded.reconstruct(tones(1)), model.reconstruct(tones(1)))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_model_saved_before_there_was_a_choice_is_one_of_waveforms(family, tmp_path):
    torch.manual_seed(0)
    audiovae.save(audiovae.build(family, CONFIGS[family], SAMPLES, RATE), tmp_path)
    about = json.loads((tmp_path / "config.json").read_text())
    del about["config"]["representation"], about["config"]["trunk"]["start"]
    for name in ("pooled", "batch_norm", "batch_norm_scale", "learned_variance"):
        about["config"].pop(name, None)
    (tmp_path / "config.json").write_text(json.dumps(about))
    weights = load_file(tmp_path / "model.safetensors")
    del weights["representation.gain"]
    save_file(weights, tmp_path / "model.safetensors")
    audiovae.saved.model_folder.seal(tmp_path)
    model = audiovae.load(tmp_path)
    assert model.representation.channels == 1
    assert model.representation.gain == 1


@settings(max_examples=20, deadline=None)
@given(bands=st.integers(2, 12), stride=st.sampled_from([2, 3, 5]))
def test_band_cosines_are_undone_by_their_mirror(bands, stride):
    down, up = downsample(bands, bands * stride, stride), upsample(bands * stride, bands, stride)
    with torch.no_grad():
        for layer in (down, up):
            layer.weight.zero_()
            layer.bias.zero_()
            start_as_band_cosines(layer.weight, stride, layer.padding[0])
    spectrum = torch.randn(2, bands, stride * 4)
    torch.testing.assert_close(up(down(spectrum)), spectrum, atol=1e-5, rtol=0)


def test_a_fresh_model_hears_the_shape_of_a_spectrum():
    """The start keeps the lowest cosines over the bands: far closer than the mean spectrum before any training."""
    model = make("vqvae", latent=48).eval()
    audio = tones(8)
    model.calibrate([audio])
    target = model.represent(audio)
    error, blank = (model.distances(guess, target)["mse"].mean() for guess in (model(target).recon, 0 * target))
    assert error < 0.5 * blank


def test_log_mel_of_silence_is_the_floor():
    assert log_mel(torch.zeros(1, 1, 2048), 20, 512, 128, RATE).unique().numel() == 1
