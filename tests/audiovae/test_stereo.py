"""Stereo models of every family: mid and side, whole recordings, files, streams and exports."""

import json

import numpy as np
import pytest
import soundfile
import torch
from causal_models import sounds
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import (
    CONFIGS,
    LEVELED,
    RATE,
    SAMPLES,
    TRUNK,
    all_terms,
    change_config,
    gradients,
    joined_at_once,
    noise,
    settings_of,
    si_sdr,
    step_of,
    tones,
)

import audiovae
from audiovae import ModelError, reconstruct_recording
from audiovae.card import write_card
from audiovae.layers.representation import mid_side
from audiovae.recordings import on_disk
from audiovae.saved.model_folder import describe

MEL = {"kind": "mel", "bands": 40, "n_fft": 512, "hop": 62, "multiple": 42, "iterations": 4}


def stereo(kind: str, causal: bool = False, moved: bool = True, **changes: object) -> audiovae.Autoencoder:
    """A tiny stereo model in evaluation mode; its weights have moved from their start, and its codebooks are in use."""
    config, family = settings_of(kind) | changes, kind.partition(" ")[0]
    if "trunk" not in changes:
        config["trunk"] = config["trunk"] | {"causal": causal}
    torch.manual_seed(0)
    model = audiovae.build(family, config, SAMPLES, RATE, 2)
    with torch.no_grad():
        for parameter in model.parameters() if moved else ():
            parameter.add_(step_of(kind) * torch.randn_like(parameter))
    model.calibrate([both_sides(6)])
    if family == "vqvae":
        target = model.represent(both_sides(8))
        model.update(model(target, noise(8)).statistics, model.config.quantizer.start_step)
    return model.eval()


def both_sides(items: int, samples: int = SAMPLES, seed: int = 0) -> torch.Tensor:
    """Left and right with a common part, [items, 2, samples]."""
    common, left, right = (sounds(items, samples, 3 * seed + i) for i in range(3))
    return torch.cat([common + 0.5 * left, common + 0.5 * right], 1) / 1.5


MODELS = {kind: stereo(kind) for kind in LEVELED}


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 99), samples=st.integers(1, 50))
def test_mid_and_side_are_orthonormal_and_their_own_inverse(seed, samples):
    audio = torch.randn(2, 2, samples, generator=torch.Generator().manual_seed(seed))
    found = mid_side(audio)
    torch.testing.assert_close(mid_side(found), audio)
    torch.testing.assert_close(found.square().sum(1), audio.square().sum(1))
    assert torch.equal(mid_side(audio[:, :1]), audio[:, :1])
    same = audio[:, :1].expand(-1, 2, -1)
    assert mid_side(same)[:, 1].abs().max() == 0


@pytest.mark.parametrize("kind", [*LEVELED, "vae", "hvae", "vqvae", "vae of spectra"])
def test_every_family_learns_from_both_sides(kind):
    changes = {"trunk": {**TRUNK, "strides": [3, 2]}, "representation": MEL} if "spectra" in kind else {}
    model = stereo(kind.partition(" of")[0], **changes).train()
    audio = both_sides(3)
    target = model.represent(audio)
    assert target.shape[1] == (80 if "spectra" in kind else 2)
    terms = all_terms(model, model(target, noise(3)), target)
    assert all(term.shape == (3,) and term.isfinite().all() for term in terms.values())
    sum(term.sum() for term in terms.values()).backward()
    assert all(grad.isfinite().all() for grad in gradients(model).values())
    model.eval()
    with torch.no_grad():
        assert model.decode(model.encode(audio)).shape == audio.shape
        assert model.sample(2, noise=noise(2)).shape == (2, 2, SAMPLES)
        # Griffin-Lim makes much of rounding.
        near = 0.01 if "spectra" in kind else 1e-4
        torch.testing.assert_close(model.reconstruct(audio)[1:2], model.reconstruct(audio[1:2]), rtol=0, atol=near)


@pytest.mark.parametrize("family", ["vae", "hvae"])
@pytest.mark.parametrize("causal", [False, True])
def test_a_new_model_carries_both_sides(family, causal):
    """The trunk begins as a transform of each of the two signals, not of one across the other."""
    left, right = tones(4), tones(4, 20)
    audio = torch.cat([left + 0.5 * right, right], 1) / 2
    found = stereo(family, causal, moved=False).reconstruct(audio)
    for signal in (lambda a: a, mid_side):
        for channel in range(2):
            assert si_sdr(signal(found)[:, channel : channel + 1], signal(audio)[:, channel : channel + 1]).min() > 4


def test_both_sides_count_in_the_losses():
    model = MODELS["vae with levels"]
    target = model.represent(both_sides(2))
    one_side = target.clone()
    one_side[:, 1] = 0
    for worse in (one_side, torch.stack([target[:, 0], -target[:, 1]], 1)):  # no side, and sides exchanged
        distances = model.distances(worse, target)
        assert all(value.min() > 0 for value in distances.values())
    # The squared error is that of left and right.
    audio = [mid_side(each) for each in (one_side, target)]
    torch.testing.assert_close(
        model.distances(one_side, target)["mse"], (audio[0] - audio[1]).square().flatten(1).mean(1)
    )


@pytest.mark.parametrize("kind", LEVELED)
def test_a_saved_model_is_stereo_again(kind, tmp_path):
    model, audio = MODELS[kind], both_sides(2)
    audiovae.save(model, tmp_path / "model")
    assert json.loads((tmp_path / "model" / "config.json").read_text())["audio_channels"] == 2
    loaded = audiovae.load(tmp_path / "model")
    assert loaded.audio_channels == 2
    assert audiovae.fingerprint(loaded) == audiovae.fingerprint(model)
    assert torch.equal(loaded.reconstruct(audio), model.reconstruct(audio))
    for wrong in (0, 3, -1, 1, "2", 2.0, True, None, [2], 1e400):
        change_config(tmp_path / "model", audio_channels=wrong)
        with pytest.raises(ModelError):
            audiovae.load(tmp_path / "model")


def test_a_mono_model_says_nothing_of_channels(tmp_path):
    model = audiovae.build("vae", CONFIGS["vae"], SAMPLES, RATE)
    audiovae.save(model, tmp_path / "model")
    assert "audio_channels" not in json.loads((tmp_path / "model" / "config.json").read_text())
    with pytest.raises(ModelError, match=r"audio of shape \[1, 2, 2205\].*expected \[B, 1, 2205\]"):
        model.encode(torch.zeros(1, 2, SAMPLES))
    with pytest.raises(ModelError, match=r"expected \[T\] floats"):
        reconstruct_recording(model, torch.zeros(2, 4000))


@pytest.mark.parametrize(("channels", "kind"), [(1, "mono"), (2, "stereo")])
def test_the_card_names_the_channels(tmp_path, channels, kind):
    model = audiovae.build("vae", CONFIGS["vae"], SAMPLES, RATE, channels)
    audiovae.save(model, tmp_path / "model")
    assert write_card(tmp_path / "model", describe(model), model.outline(), audiovae.Facts())
    assert f"A variational autoencoder of {kind} audio at" in (tmp_path / "model" / "README.md").read_text()


def recording(length: int) -> torch.Tensor:
    return 0.5 * both_sides(1, length, 5)[0]


@pytest.mark.parametrize("kind", LEVELED)
@settings(max_examples=6, deadline=None)
@given(length=st.integers(1, 6 * SAMPLES), overlap=st.sampled_from([0.0, 0.02, 0.25, 0.5]), batch=st.integers(1, 4))
def test_pieces_are_what_all_chunks_at_once_give(kind, length, overlap, batch):
    model, audio = MODELS[kind], recording(length)
    whole = joined_at_once(model, audio, overlap, batch)
    found = reconstruct_recording(model, audio, overlap, batch)
    assert found.shape == (2, length)
    assert torch.equal(found, whole)


@pytest.mark.parametrize("kind", LEVELED)
def test_few_bits_and_exact_latents_give_both_sides_back(kind):
    model, audio = MODELS[kind], recording(3 * SAMPLES + 41)
    exact = audiovae.decode_recording(model, audiovae.encode_recording(model, audio))
    assert torch.equal(exact, reconstruct_recording(model, audio))
    coded = audiovae.compress_recording(model, audio, step=0.125)
    assert audiovae.decompress_recording(model, coded).shape == audio.shape
    between = audiovae.interpolate_recordings(model, audio, audio[:, :4000], [0.0, 0.5])
    assert [one.shape for one in between] == [(2, 4000)] * 2
    for wrong in (audio[0], audio[None], torch.zeros(3, 4000), torch.zeros(2, 0)):
        with pytest.raises(ModelError, match=r"expected \[2, T\] floats"):
            audiovae.encode_recording(model, wrong)


def test_files_have_two_channels(tmp_path, monkeypatch):
    monkeypatch.setattr(on_disk, "IN_MEMORY", 5000)  # so that the recording waits on disk
    model, audio = MODELS["vae with levels"], recording(9000)
    audiovae.write_recording(tmp_path / "in.wav", audio, RATE)
    written, rate = soundfile.read(tmp_path / "in.wav", dtype="float32")
    assert (written.shape, rate) == ((9000, 2), RATE)
    assert np.abs(written.T - audio.numpy()).max() < 1e-4
    assert torch.equal(audiovae.read_recording(tmp_path / "in.wav", RATE, 2), torch.from_numpy(written.T.copy()))
    assert audiovae.read_recording(tmp_path / "in.wav", RATE).shape == (9000,)
    audiovae.reconstruct_file(model, tmp_path / "in.wav", tmp_path / "out.wav")
    found = torch.from_numpy(soundfile.read(tmp_path / "out.wav", dtype="float32")[0].T.copy())
    wanted = reconstruct_recording(model, audiovae.read_recording(tmp_path / "in.wav", RATE, 2))
    assert (found - wanted.clamp(-1, 1)).abs().max() < 1e-4
    for ending in ("coded", "safetensors"):
        audiovae.encode_file(model, tmp_path / "in.wav", tmp_path / f"in.{ending}")
        audiovae.decode_file(model, tmp_path / f"in.{ending}", tmp_path / "decoded.wav")
        assert soundfile.info(tmp_path / "decoded.wav").channels == 2
    with pytest.raises(ModelError, match=r"shape \[3, 9\]: expected \[T\] or \[2, T\]"):
        audiovae.write_recording(tmp_path / "in.wav", torch.zeros(3, 9), RATE)


@pytest.mark.parametrize(("shape", "same"), [((50,), True), ((50, 1), True), ((50, 2), False), ((50, 5), False)])
def test_any_number_of_channels_becomes_left_and_right(shape, same):
    audio = np.random.default_rng(0).uniform(-1, 1, shape).astype(np.float32)
    found = audiovae.as_recording(audio, RATE, RATE, 2).numpy()
    assert found.shape == (2, 50)
    np.testing.assert_array_equal(found[0], audio.reshape(50, -1)[:, 0])
    assert np.array_equal(found[0], found[1]) == same


@pytest.mark.parametrize("channels", [0, 3, -1, True, 2.0, "2", None])
def test_other_numbers_of_channels_are_refused(tmp_path, channels):
    audiovae.write_recording(tmp_path / "in.wav", torch.zeros(2, 500), RATE)
    with pytest.raises(ModelError, match=r"^channels is .*: choose 1 or 2$"):
        audiovae.read_recording(tmp_path / "in.wav", RATE, channels)
    with pytest.raises(ModelError, match=r"^channels is .*: choose 1 or 2$"):
        audiovae.as_recording(np.zeros((500, 2), np.float32), RATE, RATE, channels)


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("shape", [(0,), (0, 2), (50, 0), (2, 50), (50, 2, 1)])
def test_what_is_no_audio_is_refused_in_both_layouts(shape, channels):
    with pytest.raises(ModelError, match=r"holds no audio|expected \[T\] or \[T, channels\]"):
        audiovae.as_recording(np.zeros(shape, np.float32), RATE, RATE, channels)


@settings(max_examples=8, deadline=None)
@given(blocks=st.lists(st.integers(1, 900), min_size=1, max_size=8))
def test_a_stream_gives_what_one_pass_gives(blocks):
    model = stereo("vae with levels", causal=True)
    stream, audio = audiovae.stream(model), both_sides(1, sum(blocks), 2)
    found = [stream.process_block(block) for block in audio[0].split(blocks, 1)]
    assert [part.shape for part in found] == [(2, block) for block in blocks]
    late = torch.cat([*found, stream.finish()[0]], 1)[:, stream.latency :]
    once = audiovae.stream(model)
    whole = torch.cat([once.process_block(audio)[0], once.finish()[0]], 1)[:, once.latency :]
    torch.testing.assert_close(late, whole, rtol=0, atol=1e-5)
    with pytest.raises(ModelError, match=r"expected \[2, n\] or \[B, 2, n\]"):
        stream.process_block(torch.zeros(100))


@pytest.mark.parametrize("channels", [1, 2])
def test_a_stream_refuses_a_single_number(channels):
    config = CONFIGS["vae"] | {"trunk": TRUNK | {"causal": True}}
    stream = audiovae.stream(audiovae.build("vae", config, SAMPLES, RATE, channels).eval())
    with pytest.raises(ModelError, match=r"samples of shape \[\]: expected"):
        stream.process_block(torch.zeros(()))


@pytest.mark.slow(area="export")
def test_an_exported_program_takes_both_sides(tmp_path):
    pytest.importorskip("onnxruntime")
    from audiovae.saved.export import export_model

    found = export_model(MODELS["vae with levels"], tmp_path / "onnx", "onnx")
    assert set(found) == {"encoder.onnx", "decoder.onnx"}
    about = json.loads((tmp_path / "onnx" / "export.json").read_text())
    assert about["encoder"]["inputs"][0]["shape"] == ["batch", 2, SAMPLES]
