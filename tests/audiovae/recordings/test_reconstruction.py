"""Reconstruction piece by piece: what comes out does not depend on the pieces, and long recordings wait on disk."""

import io

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import LEVELED, RATE, SAMPLES, awake, joined_at_once, plucked

import audiovae
from audiovae import ModelError, reconstruct_recording
from audiovae.models.lengths import stretched
from audiovae.recordings import audio_file, on_disk, pieces
from audiovae.recordings.audio_file import write_pieces
from audiovae.recordings.overlap_add import gain_of
from audiovae.recordings.reconstruction import reconstructed
from shards.audio.levels import LEVELS

MODELS = {family: awake(family).eval() for family in LEVELED}


def recording(length: int, seed: int = 3) -> torch.Tensor:
    return 0.3 * torch.from_numpy(plucked(seed, length)).float()


@pytest.mark.parametrize("family", LEVELED)
@settings(max_examples=8, deadline=None)
@given(length=st.integers(1, 6 * SAMPLES), overlap=st.sampled_from([0.0, 0.02, 0.25, 0.5]), batch=st.integers(1, 4))
def test_pieces_are_what_all_chunks_at_once_give(family, length, overlap, batch):
    """Bit for bit: joining batches adds the same numbers in the same order as joining all chunks."""
    model, audio = MODELS[family], recording(length)
    whole = joined_at_once(model, audio, overlap, batch)
    assert torch.equal(reconstruct_recording(model, audio, overlap, batch), whole)


@pytest.mark.parametrize("seconds", [0.05, 0.3, 60])
@pytest.mark.parametrize("family", ["vae with levels", "vqvae with levels"])
def test_one_pass_in_blocks_is_one_pass(family, seconds, monkeypatch):
    monkeypatch.setattr(pieces, "BLOCK_S", seconds)
    model, audio = MODELS[family], recording(9 * SAMPLES + 77)
    samples = pieces.OnePass(model, len(audio)).padded
    gain = gain_of(audio, "peak")
    padded = torch.nn.functional.pad(audio * gain, (0, samples - len(audio))).view(1, 1, -1)
    whole = stretched(model, samples).reconstruct(padded).flatten()[: len(audio)] / gain
    found = list(reconstructed(model, pieces.Source(lambda a, b: audio[a:b], len(audio), gain), overlap=None))
    assert (len(found) > 2) == (seconds < 1)
    difference = (torch.cat(found) - whole).abs()
    if family.startswith("vqvae"):  # rounding may choose another code that is equally near
        assert difference.median() < 1e-5
    else:
        assert difference.max() < 1e-5
    assert torch.equal(reconstruct_recording(model, audio, None), torch.cat(found))


def test_a_model_that_takes_chunks_only_takes_chunks():
    model, audio = MODELS["hvae with levels"], recording(3 * SAMPLES)
    assert torch.equal(reconstruct_recording(model, audio, None), reconstruct_recording(model, audio, 0.25))


@pytest.mark.parametrize("level", LEVELS)
def test_a_recording_on_disk_is_reconstructed_alike(level, tmp_path, monkeypatch):
    model = awake("vae").eval()
    model.level = level
    audio = np.concatenate([plucked(seed, 30000) for seed in range(3)])
    soundfile.write(tmp_path / "a.wav", 0.5 * audio, 44100)
    audiovae.reconstruct_file(model, tmp_path / "a.wav", tmp_path / "memory.wav")
    monkeypatch.setattr(on_disk, "IN_MEMORY", 7000)
    monkeypatch.setattr(on_disk, "AT_ONCE", 4 * 1024)
    spilt = []
    monkeypatch.setattr(on_disk.tempfile, "TemporaryFile", lambda dir: spilt.append(io.BytesIO()) or spilt[-1])
    audiovae.reconstruct_file(model, tmp_path / "a.wav", tmp_path / "disk.wav")
    assert len(spilt) == 1
    assert spilt[0].closed
    assert (tmp_path / "memory.wav").read_bytes() == (tmp_path / "disk.wav").read_bytes()
    result = reconstruct_recording(model, audiovae.read_recording(tmp_path / "a.wav", RATE))
    audiovae.write_recording(tmp_path / "whole.wav", result, RATE)
    assert (tmp_path / "whole.wav").read_bytes() == (tmp_path / "disk.wav").read_bytes()


@pytest.mark.parametrize("name", ["a.coded", "a.safetensors"])
@pytest.mark.parametrize("family", ["vae with levels", "hvae with levels"])
def test_a_long_recording_is_encoded_and_decoded_in_parts(family, name, tmp_path, monkeypatch):
    """Of a recording on disk no part is read that is longer than a block, and the latents are those of the whole."""
    model, audio = MODELS[family], recording(60 * SAMPLES + 9)
    soundfile.write(tmp_path / "a.wav", audio.numpy(), RATE, subtype="FLOAT")
    monkeypatch.setattr(on_disk, "IN_MEMORY", 7000)
    monkeypatch.setattr(pieces, "BLOCK_S", 0.5)
    read, sizes = on_disk.DecodedRecording.read, []

    def noted(recording, first, last):
        found = read(recording, first, last)
        sizes.append(len(found))
        return found

    monkeypatch.setattr(on_disk.DecodedRecording, "read", noted)
    monkeypatch.setattr(on_disk.DecodedRecording, "_look", lambda *_: (np.array([audio.abs().max()]), 1.0))
    coded = audiovae.encode_file(model, tmp_path / "a.wav", tmp_path / name)
    assert max(sizes) < 0.6 * len(audio)
    assert sum(sizes) >= len(audio)
    if name == "a.coded":
        whole = audiovae.compress_recording(model, audio)
        assert (coded.payload, coded.gain) == (whole.payload, whole.gain)
        output = audiovae.decompress_recording(model, whole)
    else:
        whole = audiovae.encode_recording(model, audio)
        assert all(map(torch.equal, coded.latents, whole.latents))
        output = audiovae.decode_recording(model, whole)
    audiovae.decode_file(model, tmp_path / name, tmp_path / "parts.wav")
    audiovae.write_recording(tmp_path / "whole.wav", output, RATE)
    assert (tmp_path / "parts.wav").read_bytes() == (tmp_path / "whole.wav").read_bytes()
    assert {file.name for file in tmp_path.iterdir()} == {"a.wav", name, "parts.wav", "whole.wav"}


def test_what_waited_on_disk_is_gone_after_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(on_disk, "IN_MEMORY", 100)
    values = np.zeros(5000, np.float32)
    values[4000] = np.nan
    soundfile.write(tmp_path / "a.wav", values, RATE, subtype="FLOAT")
    with pytest.raises(ModelError, match=r"a\.wav: holds values that are not finite \(NaN or infinity\)$"):
        audiovae.reconstruct_file(MODELS["vae with levels"], tmp_path / "a.wav", tmp_path / "deep" / "b.wav")
    assert [file.name for file in tmp_path.iterdir()] == ["a.wav"]


def test_another_decoder_begins_anew(tmp_path, monkeypatch):
    """Blocks before `restart` count for nothing, in memory and on disk."""
    monkeypatch.setattr(on_disk, "IN_MEMORY", 100)

    def decode_twice(source, rate, output, channels):
        for length in (90, 500, 300):
            output.restart()
            for block in np.arange(length, dtype=np.float32).reshape(-1, 10) / length:
                output.add(block)
        return ""

    monkeypatch.setattr(on_disk, "decode_into", decode_twice)
    with on_disk.decoded_recording("a.wav", RATE, tmp_path) as found:
        assert found.length == 300
        assert torch.equal(found.read(0, 1000), torch.arange(300) / 300)
        assert torch.equal(found.read(17, 20), torch.arange(17, 20) / 300)


@given(st.lists(st.integers(0, 50), min_size=1, max_size=5))
@settings(max_examples=20, deadline=None)
def test_a_wav_file_in_pieces_is_that_of_soundfile(tmp_path_factory, lengths):
    audio = torch.from_numpy(np.random.default_rng(sum(lengths)).uniform(-1, 1, sum(lengths))).float()
    path = tmp_path_factory.mktemp("wav") / "a.wav"
    assert write_pieces(path, audio.split(lengths), len(audio), RATE) == ""
    content = io.BytesIO()
    soundfile.write(content, audio.numpy(), RATE, subtype="PCM_16", format="WAV")
    assert path.read_bytes() == content.getvalue()


def test_a_file_that_fails_while_it_is_made_is_not_left(tmp_path, monkeypatch):
    (tmp_path / "a.wav").write_bytes(b"before")
    good, bad = torch.zeros(5), torch.tensor([float("nan")])
    with pytest.raises(ModelError, match=r"a\.wav: not written, the audio is of shape \[1\] or not finite"):
        write_pieces(tmp_path / "a.wav", iter([good, bad]), 6, RATE)
    monkeypatch.setattr(audio_file, "LONGEST_WAV", 5)
    with pytest.raises(ModelError, match=r"a\.wav: not written, a WAV file holds 5 samples, not 6; cut the input"):
        write_pieces(tmp_path / "a.wav", iter([good]), 6, RATE)
    assert [(file.name, file.read_bytes()) for file in tmp_path.iterdir()] == [("a.wav", b"before")]
