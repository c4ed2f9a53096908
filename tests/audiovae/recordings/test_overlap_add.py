import contextlib
import math

import pytest
import torch
from tiny_models import FAMILIES, LEVELED, RATE, SAMPLES, awake, make, plucked

import audiovae
from audiovae import interpolate_recordings, reconstruct_recording, sample_chunks
from audiovae.recordings.overlap_add import gain_of
from shards.audio.levels import LEVELS

LENGTHS = [1, 100, SAMPLES - 1, SAMPLES, SAMPLES + 1, int(3.7 * SAMPLES)]


class Stub(torch.nn.Module):
    """A model that does to each chunk what a function says, and remembers what it was given."""

    samples, rate, level, audio_channels, device = SAMPLES, RATE, "peak", 1, torch.device("cpu")

    def __init__(self, function=lambda chunks: chunks):
        super().__init__()
        self.parameter = torch.nn.Parameter(torch.zeros(1))
        self.function, self.seen = function, []

    def decoding_at(self, starts) -> contextlib.AbstractContextManager:
        return contextlib.nullcontext()

    def reconstruct(self, chunks: torch.Tensor) -> torch.Tensor:
        self.seen.append(chunks.clone())
        return self.function(chunks)


def recording(length: int, level: float = 0.3) -> torch.Tensor:
    return level * torch.from_numpy(plucked(3, max(length, 50))).float()[:length] + 0.01 * level


@pytest.mark.parametrize("overlap", [0.0, 0.1, 0.25, 0.5])
@pytest.mark.parametrize("length", LENGTHS)
def test_fades_add_up_to_one_and_the_level_is_kept(length, overlap):
    audio = recording(length)
    output = reconstruct_recording(Stub(), audio, overlap)
    assert output.dtype == torch.float32
    torch.testing.assert_close(output, audio, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("level", [1.0, 0.01])
def test_the_model_hears_the_level_it_was_trained_on(level):
    audio = recording(3 * SAMPLES, level)
    model = Stub(lambda chunks: 0.5 * chunks)
    output = reconstruct_recording(model, audio)
    assert torch.cat(model.seen).abs().max().item() == pytest.approx(0.95, rel=1e-4)
    torch.testing.assert_close(output, 0.5 * audio, rtol=1e-4, atol=1e-6)


def test_neighbouring_chunks_are_cross_faded_without_a_step():
    """Chunks of constant value i: between two of them the output climbs from one to the other."""
    model = Stub(lambda chunks: torch.ones_like(chunks) * (1 - 2 * (torch.arange(len(chunks)) % 2)).view(-1, 1, 1))
    audio = 0.95 * torch.ones(4 * SAMPLES)
    output = reconstruct_recording(model, audio, overlap=0.25)
    assert output.amax().item() == pytest.approx(1.0, abs=1e-4)
    assert output.amin().item() == pytest.approx(-1.0, abs=1e-4)
    fade = int(SAMPLES * 0.25)
    assert output.diff().abs().max() < 1.1 * math.pi / fade
    hop = SAMPLES - fade
    assert output[hop + fade // 2].abs() < 0.02  # half and half


def test_chunks_cover_the_recording_once_and_in_batches():
    model = Stub()
    reconstruct_recording(model, recording(10 * SAMPLES), overlap=0.0, batch=4)
    assert [len(chunks) for chunks in model.seen] == [4, 4, 2]
    model = Stub()
    reconstruct_recording(model, recording(SAMPLES), overlap=0.5)
    assert [len(chunks) for chunks in model.seen] == [1]


@pytest.mark.parametrize("family", [*FAMILIES, *LEVELED])
def test_silence_comes_out_finite(family):
    model = awake(family).eval()
    output = reconstruct_recording(model, torch.zeros(int(1.5 * SAMPLES)))
    assert output.shape == (int(1.5 * SAMPLES),)
    assert output.isfinite().all()
    assert output.abs().max() < 1e-3  # the gain that lifts a quiet recording is taken back


@pytest.mark.parametrize("family", FAMILIES)
def test_a_recording_of_one_chunk_is_the_models_own_reconstruction(family):
    model = awake(family).eval()
    audio = recording(SAMPLES)
    audio = audio / audio.abs().max() * 0.95
    expected = model.reconstruct(audio.view(1, 1, -1)).flatten()
    torch.testing.assert_close(reconstruct_recording(model, audio), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("family", [*FAMILIES, *LEVELED])
def test_interpolation_begins_and_ends_with_the_reconstructions(family):
    model = awake(family).eval()
    first, second = recording(int(2.6 * SAMPLES), 0.5), recording(int(2.2 * SAMPLES), 0.1).flip(0)
    ends = [reconstruct_recording(model, audio[: len(second)]) for audio in (first, second)]
    begin, middle, end = interpolate_recordings(model, first, second, [0.0, 0.5, 1.0])
    torch.testing.assert_close(begin, ends[0], rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(end, ends[1], rtol=1e-3, atol=1e-5)
    assert middle.isfinite().all()
    assert not torch.allclose(middle, begin, atol=1e-4)
    assert not torch.allclose(middle, end, atol=1e-4)


@pytest.mark.parametrize("family", [*FAMILIES, *LEVELED])
def test_samples_follow_from_their_seed(family):
    model = awake(family).eval()
    chunks = sample_chunks(model, 3, seed=1)
    assert [chunk.shape for chunk in chunks] == [(SAMPLES,)] * 3
    assert all(torch.equal(a, b) for a, b in zip(chunks, sample_chunks(model, 3, seed=1), strict=True))
    assert not torch.equal(chunks[0], chunks[1])
    assert not torch.equal(chunks[0], sample_chunks(model, 3, seed=2)[0])
    cold = sample_chunks(model, 2, temperature=0.0)
    if not family.startswith("vqvae"):  # a codebook's most used codes need not win by far
        torch.testing.assert_close(cold[0], cold[1])


def test_codes_between_the_same_codes_are_these_codes():
    """In the space of the codes: the maps to and from it are no inverse of each other once they have been trained."""
    model = awake("vqvae", dimension=6, l2=True, codebooks=1).eval()
    with torch.no_grad():
        model.quantizer.up.weight.mul_(3.0)
    codes = model.encode(recording(4 * SAMPLES).view(4, 1, SAMPLES))
    assert torch.equal(model.blend(codes, codes, 0.5), codes)


@pytest.mark.parametrize("level", LEVELS)
def test_models_hear_recordings_at_the_level_of_their_training(level):
    audio = 0.3 * torch.randn(5000, generator=torch.Generator().manual_seed(0))
    heard = audio * gain_of(audio, level)
    expected = {"peak": 0.95, "robust": 0.95, "rms": None, "none": audio.abs().max().item()}[level]
    if expected:
        assert heard.abs().max().item() == pytest.approx(expected, rel=1e-4)
    else:
        assert heard.square().mean().sqrt().item() == pytest.approx(0.1, rel=1e-4)
    assert (audio * 0 * gain_of(audio * 0, level)).abs().max() == 0


@pytest.mark.parametrize(
    "audio", [torch.zeros(0), torch.zeros(1, 50), torch.zeros(50).long(), torch.full((50,), torch.nan)]
)
def test_what_is_no_recording_is_one_line(audio):
    with pytest.raises(audiovae.ModelError, match="audio"):
        audiovae.reconstruct_recording(make("vae"), audio)
    with pytest.raises(audiovae.ModelError, match="overlap is"):
        audiovae.reconstruct_recording(make("vae"), torch.zeros(50), 0.9)


def test_noise_of_the_upper_bands_does_not_repeat_from_chunk_to_chunk():
    """Equal chunks of silence with loud levels: their noise differs, and is the same at each decoding."""
    model = awake("vae with levels").eval()
    latents = torch.zeros(2, model.channels, model.frames)
    latents[:, model.config.latent :] = 4.0
    with torch.no_grad(), model.decoding_at([0, SAMPLES]):
        first, second = model.decode(latents)
    with torch.no_grad(), model.decoding_at([SAMPLES]):
        (again,) = model.decode(latents[:1])
    assert torch.allclose(again, second, atol=1e-5)
    assert (first - second).abs().mean() > 0.1 * first.abs().mean()
    one, two = (model.decode(latents).detach() for _ in range(2))
    assert torch.equal(one, two)
    assert torch.equal(one[0], one[1]), "without places"
