"""Recordings as latents, in memory and in a file."""

import dataclasses

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import save_file
from tiny_models import FAMILIES, LEVELED, RATE, SAMPLES, awake, command, make, plucked

import audiovae
from audiovae import ModelError
from audiovae.recordings.latents import code_bits
from audiovae.recordings.latents_file import AT_ONCE, pack, unpack

LENGTHS = [1, SAMPLES, SAMPLES + 1, int(40.3 * SAMPLES)]  # the last are more than two batches


@pytest.fixture(scope="module")
def models():
    return {family: awake(family).eval() for family in [*FAMILIES, *LEVELED]}


def recording(length: int) -> torch.Tensor:
    return 0.3 * torch.from_numpy(plucked(3, max(length, 50))).float()[:length] + 0.01


@pytest.mark.parametrize("overlap", [0.0, 0.25])
@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("family", [*FAMILIES, *LEVELED])
def test_what_comes_back_from_a_file_is_the_reconstruction(family, length, overlap, models, tmp_path):
    model, audio = models[family], recording(length)
    audiovae.write_latents(tmp_path / "it.safetensors", audiovae.encode_recording(model, audio, overlap))
    found = audiovae.decode_recording(model, audiovae.read_latents(tmp_path / "it.safetensors"))
    assert torch.equal(found, audiovae.reconstruct_recording(model, audio, overlap))


@pytest.mark.parametrize("family", ["vae", "hvae", "vqvae"])
def test_decoding_gets_tensors_with_strides_of_their_own(family, models, monkeypatch):
    """A coarse level has one frame a chunk. `contiguous` keeps its strides, but a convolution may need others."""
    model, seen = models[family], []
    coded = audiovae.encode_recording(model, recording(2 * SAMPLES + 1), overlap=0)
    decode = model.decode

    def spy(latents):
        seen.extend(model.to_tensors(latents))
        return decode(latents)

    monkeypatch.setattr(model, "decode", spy)
    audiovae.decode_recording(model, coded)
    assert len(seen) == len(model.latent_shapes)
    assert [level.stride() for level in seen] == [torch.empty(level.shape).stride() for level in seen]


def test_codes_take_no_more_bits_than_they_need(models, tmp_path):
    coded = audiovae.encode_recording(models["vqvae"], recording(30 * SAMPLES), overlap=0)
    assert coded.bits_per_second == pytest.approx(models["vqvae"].bits_per_second)  # 64 codes: 6 bits
    file = tmp_path / "it.safetensors"
    audiovae.write_latents(file, coded)
    assert file.stat().st_size < 30 * 4 * 21 * 6 / 8 + 1000
    with safe_open(file, "pt") as content:
        about = content.metadata()
        assert list(content.keys()) == ["codes"]
    assert {name: about[name] for name in ("family", "rate", "samples", "code_size", "shape")} == {
        "family": "vqvae",
        "rate": str(RATE),
        "samples": str(SAMPLES),
        "code_size": "64",
        "shape": "30 4 21",
    }


@pytest.mark.parametrize("family", ["vae", "hvae"])
def test_half_precision_halves_the_rate_and_is_close(family, models, tmp_path):
    audio = recording(5 * SAMPLES)
    full, half = (audiovae.encode_recording(models[family], audio, precision=p) for p in ("float32", "float16"))
    assert half.bits_per_second * 2 == full.bits_per_second
    audiovae.write_latents(tmp_path / "it.safetensors", half)
    found = audiovae.decode_recording(models[family], audiovae.read_latents(tmp_path / "it.safetensors"))
    exact = audiovae.decode_recording(models[family], full)
    assert 0 < (found - exact).abs().max() < 0.01 * exact.abs().max()


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_packed_bits_are_the_codes(data):
    size = data.draw(st.integers(2, 70000))
    shape = data.draw(st.tuples(st.integers(1, 4), st.integers(1, 8), st.integers(1, 9)))
    codes = np.random.default_rng(data.draw(st.integers(0, 99))).integers(0, size, shape)
    codes.flat[0] = size - 1
    bits = code_bits(size)
    packed = pack(codes, bits)
    assert packed.nbytes == -(-codes.size * bits // 8)
    assert np.array_equal(unpack(packed, bits, shape), codes)


def test_another_model_cannot_decode(models, tmp_path):
    coded = audiovae.encode_recording(models["vae"], recording(SAMPLES))
    other = awake("vae", seed=1).eval()
    for model in (other, models["hvae"]):
        with pytest.raises(ModelError, match="decode with the model that encoded"):
            audiovae.decode_recording(model, coded)


def damaged(content: bytes) -> list[bytes]:
    return [b"", content[: len(content) // 2], b"\xff" * 64 + content[64:]]


@pytest.mark.parametrize("way", range(3))
def test_a_damaged_file_is_one_line(way, models, tmp_path):
    file = tmp_path / "it.safetensors"
    audiovae.write_latents(file, audiovae.encode_recording(models["vqvae"], recording(SAMPLES)))
    file.write_bytes(damaged(file.read_bytes())[way])
    with pytest.raises(ModelError, match="cannot be read as latents") as caught:
        audiovae.read_latents(file)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "change",
    [
        {"length": "-1"},
        {"length": "99999999999"},
        {"length": "one"},
        {"fade": "2000"},
        {"gain": "nan"},
        {"gain": "0"},
        {"samples": "0"},
        {"shape": "1 4 22"},
        {"shape": "1 -4 -21"},
        {"shape": ""},
        {"code_size": "-64"},
        {"code_size": "0"},
        {"code_size": "40"},
        {"format": "audiovae latents 99"},
        {"rate": None},
    ],
    ids=str,
)
def test_metadata_that_cannot_be(change, models, tmp_path):
    file = tmp_path / "it.safetensors"
    coded = audiovae.encode_recording(models["vqvae"], recording(SAMPLES))
    coded.latents[0][:] = 63
    audiovae.write_latents(file, coded)
    with safe_open(file, "pt") as content:
        about, tensors = content.metadata() | change, {"codes": content.get_tensor("codes")}
    save_file(tensors, file, {name: value for name, value in about.items() if value is not None})
    with pytest.raises(ModelError, match=r"it\.safetensors: .*encode"):
        audiovae.read_latents(file)


def test_a_model_file_is_no_recording(models, tmp_path):
    audiovae.save(models["vae"], tmp_path)
    with pytest.raises(ModelError, match="not a latents file of this version"):
        audiovae.read_latents(tmp_path / "model.safetensors")


def test_the_commands(models, tmp_path):
    audiovae.save(models["vqvae"], tmp_path / "model")
    left = plucked(1, 30000, 44100)
    soundfile.write(tmp_path / "song.flac", np.stack([left, 0.5 * left], axis=1), 44100)
    said = command("encode", tmp_path / "model", tmp_path / "song.flac", tmp_path / "song.safetensors")
    assert (said.returncode, said.stderr) == (0, "")
    size = (tmp_path / "song.safetensors").stat().st_size
    assert f"0.7 s as 9 chunks of 4 x 21 codes of 6 bits, {size:,} bytes, 6.668 kbit/s" in said.stdout
    said = command("decode", tmp_path / "model", tmp_path / "song.safetensors", tmp_path / "song.wav")
    assert (said.returncode, said.stderr) == (0, "")
    audiovae.reconstruct_file(models["vqvae"], tmp_path / "song.flac", tmp_path / "other.wav")
    assert (tmp_path / "song.wav").read_bytes() == (tmp_path / "other.wav").read_bytes()
    assert not list(tmp_path.glob(".*")), "nothing left beside"


def test_names_of_outputs_are_checked_first(models, tmp_path):
    with pytest.raises(ModelError, match=r"name must end in \.safetensors"):
        audiovae.encode_file(models["vae"], tmp_path / "gone.wav", tmp_path / "out.npz")
    with pytest.raises(ModelError, match=r"name must end in \.wav"):
        audiovae.decode_file(models["vae"], tmp_path / "gone", tmp_path / "out.mp3")
    with pytest.raises(ModelError, match="cannot be read as latents"):
        audiovae.decode_file(models["vae"], tmp_path / "gone.safetensors", tmp_path / "out.wav")


def test_a_place_that_cannot_be_written(models, tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "taken.safetensors").mkdir()
    coded = audiovae.encode_recording(models["vae"], recording(SAMPLES))
    for place in (tmp_path / "file" / "it.safetensors", tmp_path / "taken.safetensors"):
        with pytest.raises(ModelError, match="cannot be written"):
            audiovae.write_latents(place, coded)
        with pytest.raises(ModelError, match="cannot be written"):  # before the recording is looked for
            audiovae.encode_file(models["vae"], tmp_path / "gone.wav", place)
    assert len(list(tmp_path.iterdir())) == 2, "nothing left beside"


@pytest.mark.parametrize(
    "audio", [np.zeros((2, 100)), np.zeros(0), np.zeros((3, 4, 5)), np.zeros(9, dtype=np.int16), np.array([np.nan] * 9)]
)
def test_arrays_that_are_no_recording(audio):
    with pytest.raises(ModelError):
        audiovae.as_recording(audio, 44100, RATE)


def test_arrays_become_recordings():
    stereo = np.stack([plucked(1, 4410, 44100), np.zeros(4410)], axis=1)
    mono = audiovae.as_recording(stereo, 44100, RATE)
    assert mono.shape == (2205,)
    assert mono.dtype == torch.float32
    assert torch.equal(mono, audiovae.as_recording(torch.from_numpy(stereo.mean(1)), 44100, RATE))


@pytest.mark.parametrize("bits", [1, 3, 10])
@pytest.mark.parametrize("count", [0, AT_ONCE, 2 * AT_ONCE + 5])
def test_many_codes_are_packed_in_parts(bits, count):
    codes = np.random.default_rng(0).integers(0, 1 << bits, count)
    packed = pack(codes, bits)
    bits_one_by_one = [int(bit) for code in codes[:1000] for bit in f"{code:0{bits}b}"]
    assert np.array_equal(np.unpackbits(packed)[: len(bits_one_by_one)], bits_one_by_one)
    assert packed.nbytes == -(-count * bits // 8)
    assert np.array_equal(unpack(packed, bits, (count,)), codes)


def test_codes_for_another_size_of_codebook_are_refused():
    model = awake("vqvae").eval()
    coded = audiovae.encode_recording(model, recording(2 * SAMPLES))
    with pytest.raises(ModelError, match="codebooks of 128 codes, but the model has 64"):
        audiovae.decode_recording(model, dataclasses.replace(coded, code_size=128))


def test_codebooks_that_have_not_started_have_no_codes():
    with pytest.raises(ModelError, match="before its codebooks started"):
        audiovae.encode_recording(make("vqvae"), recording(100))
