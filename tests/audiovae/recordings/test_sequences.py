"""Recordings as sequences of frames: for every family, in one pass or in chunks."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import audiovae
from audiovae import ModelError
from audiovae.priors.latents import STEP
from audiovae.recordings.overlap_add import fade_of, gain_of, split_chunks
from audiovae.recordings.sequences import (
    Frames,
    audio_of,
    join_levels,
    layout_of,
    part_levels,
    sequence_of,
    to_numbers,
)
from tests.audiovae.tiny_models import FAMILIES, LEVELED, RATE, SAMPLES, awake, make, tones

KINDS = [*FAMILIES, *LEVELED]


@pytest.fixture(scope="module")
def models() -> dict[str, audiovae.Autoencoder]:
    return {name: awake(name).eval() for name in KINDS}


@given(
    shapes=st.lists(st.tuples(st.integers(1, 4), st.integers(1, 6)), min_size=1, max_size=4),
    chunks=st.integers(1, 3),
)
def test_levels_come_back_from_their_sequence(shapes, chunks):
    levels = [torch.randn(channels, chunks * columns) for channels, columns in shapes]
    sequence = join_levels(levels)
    frames = math.gcd(*(columns for _, columns in shapes))
    assert sequence.shape == (sum(level.numel() for level in levels) // (chunks * frames), chunks * frames)
    back = part_levels(sequence, shapes)
    assert all(torch.equal(one, level) for one, level in zip(back, levels, strict=True))


def test_the_place_of_a_latent_in_its_frame():
    fine, coarse = torch.arange(24).view(2, 12), 100 + torch.arange(9).view(3, 3)
    sequence = join_levels([fine, coarse])
    assert sequence.shape == (2 * 4 + 3, 3)
    for frame in range(3):
        for column in range(4):
            for channel in range(2):
                assert sequence[column * 2 + channel, frame] == fine[channel, 4 * frame + column]
        assert sequence[8:, frame].tolist() == coarse[:, frame].tolist()


@pytest.mark.parametrize("name", KINDS)
def test_a_chunk_is_that_of_the_model(models, name):
    model, audio = models[name], tones(1)
    sequence = sequence_of(model, audio.flatten())
    found = part_levels(sequence, model.latent_shapes)
    wanted = model.to_tensors(model.encode(audio))
    for level, own in zip(found, wanted, strict=True):
        assert level.dtype == own.dtype
        torch.testing.assert_close(level, own[0])
    recon = model.reconstruct(audio).flatten()
    output = audio_of(model, sequence)
    assert Frames(model).samples(sequence.shape[1]) == len(output) == SAMPLES
    torch.testing.assert_close(output, recon, atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", KINDS)
def test_a_recording_sounds_like_that_of_the_codec(models, name):
    """The codec quantises real latents finely here; codes are the same, and so is the audio."""
    model = models[name]
    audio = tones(6).flatten()[: 5 * SAMPLES + 77]
    gain = gain_of(audio, model.level)
    coded = audiovae.decompress_recording(model, audiovae.compress_recording(model, audio, step=0.125))
    output = audio_of(model, sequence_of(model, audio * gain))[: len(audio)] / gain
    assert len(output) == len(audio)
    allowed = 0 if model.code_size else 0.02
    assert (output - coded).abs().max() <= allowed * coded.abs().max()
    assert not torch.allclose(output[SAMPLES:], output[:-SAMPLES])


@pytest.mark.parametrize("name", KINDS)
def test_frames_cover_the_audio_that_they_name(models, name):
    model = models[name]
    frames = Frames(model)
    for seconds in (0.001, 0.25, 0.5, 2.0):
        count = frames.nearest(seconds)
        step = frames.samples(2 * frames.grain) - frames.samples(frames.grain)
        assert count % frames.grain == frames.hop(count) % frames.grain == 0
        assert 0 < frames.hop(count) <= count
        wanted = max(seconds * RATE, frames.samples(frames.grain))
        assert abs(frames.samples(count) - wanted) <= step / 2
    assert (frames.fade < 0) == (model.family != "hvae")
    long = frames.nearest(0.5)
    sequence = sequence_of(model, tones(8).flatten()[: frames.samples(long)], frames)
    assert sequence.shape == (frames.rows, long)


@pytest.mark.parametrize("name", ["vae", "vqvae with levels"])
def test_any_number_of_frames_is_decoded(models, name):
    """Far from the end, audio does not depend on where a sequence ends: the last frames only have other neighbours."""
    model = models[name]
    sequence = sequence_of(model, tones(4).flatten())
    whole = audio_of(model, sequence)
    for count in (1, 40, 41):
        part = audio_of(model, sequence[:, :count])
        assert len(part) == count * 105
    torch.testing.assert_close(part[:1000], whole[:1000], atol=1e-5, rtol=0)


def test_chunks_follow_one_another(models):
    model = models["hvae"]
    audio = tones(3).flatten()
    chunks = split_chunks(audio, SAMPLES, fade_of(SAMPLES, 0.02))
    sequence = sequence_of(model, audio)
    for number, chunk in enumerate(chunks):
        own = join_levels([level[0] for level in model.encode(chunk.unsqueeze(0))])
        torch.testing.assert_close(sequence[:, number : number + 1], own, atol=1e-5, rtol=1e-4)


def test_what_a_prior_must_know(models):
    for name in KINDS:
        model = models[name]
        layout = layout_of(model, 10)
        assert layout.model == audiovae.fingerprint(model)
        assert (layout.family, layout.rate, layout.frames) == (model.family, RATE, 10)
        assert (layout.kind, layout.size) == (("codes", 64) if model.code_size else ("real", 0))
        assert layout.rows * layout.chunk_frames == sum(a * b for a, b in model.latent_shapes)
        assert layout.stride * layout.chunk_frames == SAMPLES


def test_numbers_of_a_data_set():
    real = torch.randn(3, 5)
    numbers = to_numbers(real)
    assert numbers.shape == (5, 3)
    assert numbers.dtype == "int16"
    torch.testing.assert_close(torch.from_numpy(numbers).T * STEP, real, atol=STEP / 2, rtol=0)
    codes = torch.randint(0, 1 << 15, (3, 5))
    assert to_numbers(codes).T.tolist() == codes.tolist()
    for bad in (128.0, -128.1, math.nan, math.inf):
        with pytest.raises(ModelError, match="range of a data set"):
            to_numbers(torch.full((1, 1), bad))


def test_refusals(models):
    with pytest.raises(ModelError, match="no codes yet"):
        sequence_of(make("vqvae").eval(), tones(1).flatten())
    with pytest.raises(ModelError, match=r"expected \[48, frames\] floats"):
        audio_of(models["vae"], torch.zeros(47, 5))
    with pytest.raises(ModelError, match="codes, int64"):
        audio_of(models["vqvae"], torch.zeros(4, 5))
    two = audiovae.build(
        "hvae",
        {
            "trunk": {"strides": [15, 7], "channels": [8, 8], "blocks": 1, "kernel": 3},
            "level_strides": [3],
            "level_channels": [8],
            "latents": [2, 2],
            "free_nats": [0.0, 0.0],
        },
        SAMPLES,
        RATE,
    ).eval()
    with pytest.raises(ModelError, match="whole chunks of 7 frames"):
        audio_of(two, torch.zeros(8, 8))
    assert audio_of(two, torch.zeros(8, 7)).shape == (SAMPLES,)
