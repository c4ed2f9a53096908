"""Recordings in few bits: what is stored, what comes back, and what is refused."""

import dataclasses
import math

import numpy as np
import pytest
import soundfile
import torch
from tiny_models import FAMILIES, LEVELED, RATE, SAMPLES, awake, make, plucked

import audiovae
from audiovae import ModelError, commands
from audiovae.coding import range_coder, whole_numbers
from audiovae.models.lengths import stretched
from audiovae.recordings import pieces
from audiovae.recordings.compressed_file import from_bytes, to_bytes
from audiovae.recordings.pieces import OnePass, reach, takes_one_pass

REAL = ["hvae", "vae", "hvae with levels", "vae with levels"]


@pytest.fixture(scope="module")
def models():
    return {family: awake(family).eval() for family in [*FAMILIES, *LEVELED]}


def recording(length: int) -> torch.Tensor:
    return 0.3 * torch.from_numpy(plucked(3, max(length, 50))).float()[:length] + 0.01


def test_the_families_in_one_pass_are_those_whose_layers_fit_into_a_chunk(models):
    assert all(takes_one_pass(model) == (model.family != "hvae") for model in models.values())
    assert not takes_one_pass(make("vae", pooled=True))


@pytest.mark.parametrize("length", [1, SAMPLES, SAMPLES + 1, 7 * SAMPLES + 11])
@pytest.mark.parametrize("family", [*FAMILIES, *LEVELED])
def test_a_file_holds_what_was_encoded(family, length, models, tmp_path):
    model, audio = models[family], recording(length)
    coded = audiovae.compress_recording(model, audio)
    audiovae.write_compressed(tmp_path / "it.coded", coded)
    found = audiovae.read_compressed(tmp_path / "it.coded")
    for own, other in zip(audiovae.stored_numbers(model, coded), audiovae.stored_numbers(model, found), strict=True):
        assert np.array_equal(own, other)
    output = audiovae.decompress_recording(model, found)
    assert output.shape == (length,)
    assert torch.equal(output, audiovae.decompress_recording(model, coded))
    assert coded.bits_per_second == 8 * (tmp_path / "it.coded").stat().st_size / (length / RATE)


@pytest.mark.parametrize("family", ["vqvae", "vqvae with levels"])
def test_codes_in_one_pass_are_those_of_the_model(family, models):
    model, audio = models[family], recording(3 * SAMPLES)
    whole = stretched(model, 3 * SAMPLES)
    gain = audiovae.recordings.overlap_add.gain_of(audio, model.level)
    codes = whole.encode(audio.view(1, 1, -1) * gain)[0].numpy()
    coded = audiovae.compress_recording(model, audio)
    assert np.array_equal(audiovae.stored_numbers(model, coded)[0], codes)
    assert torch.equal(
        audiovae.decompress_recording(model, coded), whole.decode(torch.from_numpy(codes)[None]).flatten() / gain
    )


def test_a_long_recording_may_have_a_small_file(models):
    """Silence takes nearly no bytes, which must not look like damage."""
    coded = audiovae.compress_recording(models["vae"], recording(SAMPLES))
    long = dataclasses.replace(coded, length=10 * 3600 * 48000, payload=bytes(32))
    assert from_bytes(to_bytes(long)).length == long.length


@pytest.mark.parametrize("family", REAL)
def test_a_file_does_not_promise_more_than_its_bytes_hold(family, models, tmp_path, monkeypatch):
    """A small file of a stranger cannot keep a machine busy for hours; nothing is written."""
    model = models[family]
    coded = audiovae.compress_recording(model, recording(SAMPLES))
    long = dataclasses.replace(coded, length=(1 << 31) - 64, payload=coded.payload[:64])
    with pytest.raises(ModelError, match=r"damaged \([\d,]+ symbols are promised, and [\d,]+ bytes hold"):
        audiovae.decompress_recording(model, long)
    with monkeypatch.context() as patch:
        patch.setattr("numpy.empty", lambda *_: exec("raise MemoryError"))
        with pytest.raises(ModelError, match=r"no memory is left for the latents of 0\.0 hours"):
            audiovae.decompress_recording(model, coded)
    audiovae.write_compressed(tmp_path / "it.coded", dataclasses.replace(coded, length=1 << 31))
    with pytest.raises(ModelError, match=r"a WAV file holds 2,147,483,584 samples"):
        audiovae.decode_file(model, tmp_path / "it.coded", tmp_path / "it.wav")
    assert not (tmp_path / "it.wav").exists()


def test_silence_is_not_refused(models):
    """It takes the fewest bits that a recording can take, and is well within what its bytes may hold."""
    model = models["vae"]
    chunks = 2000
    coded = audiovae.compress_recording(model, torch.zeros(chunks * SAMPLES))
    most = range_coder.most_symbols(len(coded.payload), whole_numbers.WIDEST, whole_numbers.PRECISION)
    assert chunks * sum(map(math.prod, model.latent_shapes)) < 0.8 * most


@pytest.mark.parametrize("family", REAL)
def test_a_model_that_diverged_is_named(family):
    model = awake(family).eval()
    with torch.no_grad():
        next(model.parameters()).fill_(float("nan"))
    with pytest.raises(ModelError, match="not finite"):
        audiovae.compress_recording(model, recording(SAMPLES))


@pytest.mark.parametrize("family", REAL)
def test_small_steps_give_the_reconstruction(family, models):
    model, audio = models[family], recording(4 * SAMPLES)
    exact = audiovae.reconstruct_recording(model, audio, overlap=0.25)
    coarse, fine = (
        audiovae.decompress_recording(model, audiovae.compress_recording(model, audio, step, overlap=0.25))
        for step in (8.0, 0.125)
    )
    error, less = ((output - exact).abs().max() / exact.abs().max() for output in (coarse, fine))
    assert less < 0.02 < error


@pytest.mark.parametrize("family", REAL)
def test_a_coarser_step_takes_fewer_bits(family, models):
    audio = recording(20 * SAMPLES)
    rates = [audiovae.compress_recording(models[family], audio, step).bits_per_second for step in (1.0, 3.0, 9.0)]
    assert rates[0] > 1.1 * rates[1] > 1.2 * rates[2]
    assert rates[0] < 0.3 * audiovae.encode_recording(models[family], audio).bits_per_second


@pytest.mark.parametrize("family", ["vae", "vqvae", "vae with levels", "vqvae with levels"])
def test_blocks_are_one_pass(family, models, monkeypatch):
    """In one block and in many the recording is the same, but for rounding."""
    model, audio = models[family], recording(12 * SAMPLES + 5)
    values = {}
    for seconds in (60, 0.15):
        monkeypatch.setattr(pieces, "BLOCK_S", seconds)
        layout = OnePass(model, len(audio))
        assert (len(layout.blocks()) > 3) == (seconds < 1)
        with torch.no_grad():
            latents = layout.encode(lambda a, b: audio[a:b], lambda piece, part: [piece.encode(part)])
            output = list(layout.decode(latents, lambda piece, own: piece.decode(own[0])))
            assert (len(output) > 3) == (seconds < 1)
            values[seconds] = latents[0], torch.cat(output)
    (one, whole), (other, joined) = values[60], values[0.15]
    if model.family == "vae":
        assert (one - other).abs().max() < 1e-4
    else:
        assert (one != other).float().mean() < 0.01, "only ties may differ"
    assert (whole - joined).abs().max() < 1e-4 or model.family == "vqvae"


@pytest.mark.parametrize("family", ["vae", "vae with levels"])
def test_nothing_looks_beyond_the_reach(family, models):
    model = models[family]
    samples = 12 * SAMPLES
    whole, audio = stretched(model, samples), recording(samples).view(1, 1, -1)
    other = audio.clone()
    middle = samples // 2
    other[..., middle] += 0.5
    with torch.no_grad():
        one, two = whole.encode(audio), whole.encode(other)
        changed = (one != two).any(1).flatten().nonzero().flatten() * (samples // one.shape[2])
        assert 0 < (changed - middle).abs().max() <= reach(model)
        two = one.clone()
        two[..., one.shape[2] // 2] += 1.0
        place = one.shape[2] // 2 * (samples // one.shape[2])
        changed = (whole.decode(one) != whole.decode(two)).flatten().nonzero().flatten()
        assert 0 < (changed - place).abs().max() <= reach(model)


@pytest.mark.parametrize("family", FAMILIES)
def test_threads_do_not_change_what_is_read(family, models):
    model = models[family]
    coded = audiovae.compress_recording(model, recording(5 * SAMPLES))
    numbers = audiovae.stored_numbers(model, coded)
    torch.set_num_threads(3)
    for own, other in zip(numbers, audiovae.stored_numbers(model, coded), strict=True):
        assert np.array_equal(own, other)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_damaged_file_is_one_line(family, models, tmp_path):
    """Every cut and every flipped byte is found."""
    content = to_bytes(audiovae.compress_recording(models[family], recording(SAMPLES)))
    file = tmp_path / "it.coded"
    rng = np.random.default_rng(0)
    places = [*range(90), *rng.integers(0, len(content), 60).tolist()]
    wrong = [content[:place] for place in places]
    wrong += [content[:place] + bytes([content[place] ^ 1 << place % 8]) + content[place + 1 :] for place in places]
    for each in [*wrong, content + b"\0", b"RIFF" + content[4:]]:
        file.write_bytes(each)
        with pytest.raises(ModelError, match=r"it\.coded: cannot be read as latents") as caught:
            audiovae.read_compressed(file)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "change",
    [
        {"length": 0},
        {"length": 1 << 50},
        {"rate": 1},
        {"gain": float("nan")},
        {"gain": 0.0},
        {"fade": -2},
        {"family": "a\nb"},
        {"steps": [np.zeros(1 << 20, np.uint8)]},
    ],
    ids=str,
)
def test_headers_that_cannot_be(change, models):
    coded = audiovae.compress_recording(models["vae"], recording(SAMPLES))
    with pytest.raises(ValueError, match=r"impossible|header"):
        from_bytes(to_bytes(dataclasses.replace(coded, **change)))


@pytest.mark.parametrize(
    "change",
    [
        {"length": 9 * SAMPLES},
        {"payload": b"\xff" * 64},
        {"payload": b""},
        {"steps": []},
        {"rate": 44100},
        {"fade": SAMPLES},
        {"fade": 30},
    ],
    ids=str,
)
@pytest.mark.parametrize("family", FAMILIES)
def test_headers_that_do_not_fit_the_model(family, change, models):
    coded = audiovae.compress_recording(models[family], recording(4 * SAMPLES), overlap=0.0)
    if change == {"steps": []} and family == "vqvae":
        change = {"steps": [np.zeros(3, np.uint8)]}
    if change == {"fade": 30}:
        change = {"fade": SAMPLES // 2}
    with pytest.raises(ModelError, match="encode the recording again"):
        audiovae.decompress_recording(models[family], dataclasses.replace(coded, **change))


def test_another_model_cannot_decode(models):
    coded = audiovae.compress_recording(models["vae"], recording(SAMPLES))
    for model in (awake("vae", seed=1).eval(), models["hvae"]):
        with pytest.raises(ModelError, match="decode with the model that encoded"):
            audiovae.decompress_recording(model, coded)


@pytest.mark.parametrize(("step", "overlap"), [(0.0, None), (float("nan"), None), (99.0, None), (3.0, 0.6)])
def test_arguments_out_of_range(step, overlap, models):
    with pytest.raises(ModelError, match="choose"):
        audiovae.compress_recording(models["vae"], recording(SAMPLES), step, overlap)


def test_codebooks_that_have_not_started_have_no_codes():
    with pytest.raises(ModelError, match="before its codebooks started"):
        audiovae.compress_recording(make("vqvae"), recording(100))


@pytest.mark.parametrize("encode", [audiovae.compress_recording, audiovae.encode_recording])
def test_a_recording_that_files_cannot_hold_is_refused_before_it_is_encoded(encode, models, monkeypatch):
    monkeypatch.setattr(models["vae"], "level", "peak")
    with pytest.raises(ModelError, match="far from full scale"):
        encode(models["vae"], recording(SAMPLES) * 2.0**24)


def test_silence_takes_little(models):
    silent, loud = (
        audiovae.compress_recording(models["vae"], audio).bits_per_second
        for audio in (torch.zeros(60 * SAMPLES), recording(60 * SAMPLES))
    )
    assert silent < 0.2 * loud


def test_the_name_chooses_the_format(models, tmp_path):
    model = models["vae"]
    soundfile.write(tmp_path / "it.wav", recording(8 * SAMPLES).numpy(), RATE)
    sizes = {}
    for ending in ("coded", "safetensors"):
        audiovae.encode_file(model, tmp_path / "it.wav", tmp_path / f"it.{ending}")
        sizes[ending] = (tmp_path / f"it.{ending}").stat().st_size
        audiovae.decode_file(model, tmp_path / f"it.{ending}", tmp_path / f"{ending}.wav")
        assert len(soundfile.read(tmp_path / f"{ending}.wav")[0]) == 8 * SAMPLES
    assert 3 * sizes["coded"] < sizes["safetensors"]
    with pytest.raises(ModelError, match=r"name must end in \.safetensors \(exact latents\) or \.coded"):
        audiovae.encode_file(model, tmp_path / "it.wav", tmp_path / "it.npz")
    (tmp_path / "it.coded").write_bytes((tmp_path / "it.safetensors").read_bytes())
    with pytest.raises(ModelError, match=r"it\.coded: cannot be read as latents \(it is not a compressed recording"):
        audiovae.decode_file(model, tmp_path / "it.coded", tmp_path / "out.wav")


def test_the_command_says_what_it_wrote(models, tmp_path, capsys):
    audiovae.save(models["hvae"], tmp_path / "model")
    soundfile.write(tmp_path / "it.wav", recording(8 * SAMPLES).numpy(), RATE)
    commands.encode(tmp_path / "model", tmp_path / "it.wav", tmp_path / "it.coded")
    line = capsys.readouterr().out
    assert "entropy-coded latents in chunks" in line
    assert "share 44 samples" in line
    with pytest.raises(ModelError, match="--step 100"):
        commands.encode(tmp_path / "model", tmp_path / "it.wav", tmp_path / "it.coded", step=100)
