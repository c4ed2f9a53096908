"""Tensors of other shapes than a model takes: one line that names the shape."""

import numpy as np
import pytest
import torch
from tiny_models import FAMILIES, LEVELED, SAMPLES, awake, plucked, tones

import audiovae
from audiovae import ModelError

AUDIO = [
    torch.zeros(SAMPLES),
    torch.zeros(2, SAMPLES),
    torch.zeros(2, 2, SAMPLES),
    torch.zeros(2, 1, SAMPLES - 1),
    torch.zeros(2, 1, SAMPLES, dtype=torch.int64),
    np.zeros((2, 1, SAMPLES), np.float32),
    None,
]


@pytest.mark.parametrize(
    "audio", AUDIO, ids=lambda audio: f"{getattr(audio, 'dtype', None)}{getattr(audio, 'shape', ())}"
)
@pytest.mark.parametrize("family", FAMILIES)
def test_audio(family, audio):
    model = awake(family).eval()
    with pytest.raises(ModelError, match=rf"expected \[B, 1, {SAMPLES}\] floats$"):
        model.encode(audio)
    with pytest.raises(ModelError, match=rf"representation .*: expected \[B, 1, {SAMPLES}\] floats$"):
        model(audio)


@pytest.mark.parametrize("family", [*FAMILIES, *LEVELED])
def test_latents(family):
    model = awake(family).eval()
    tensors = model.to_tensors(model.encode(tones(2)))
    channels, frames = model.latent_shapes[0]
    for wrong in (tensors[0][:, :, :-1], tensors[0][0], tensors[0].float() if model.code_size else tensors[0].long()):
        with pytest.raises(ModelError, match=rf"latents of shape .*: expected \[B, {channels}, {frames}\]"):
            model.decode(model.from_tensors([wrong, *tensors[1:]]))
    for none in (None, 5, [], "latents", {}):
        with pytest.raises(ModelError, match="latents"):
            model.decode(none)


@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_no_tensor_is_named_in_a_sentence(family):
    model = awake(family).eval()
    with pytest.raises(
        ModelError, match=rf"^audio of type ndarray, not a tensor: expected \[B, 1, {SAMPLES}\] floats$"
    ):
        model.encode(np.zeros((1, 1, SAMPLES), dtype=np.float32))
    with pytest.raises(
        ModelError, match=r"^latents of type ndarray(, not a tensor: expected|: expected a list of 3 tensors)"
    ):
        model.decode(np.zeros(3))


def test_an_hvae_needs_all_levels():
    model = awake("hvae").eval()
    with pytest.raises(ModelError, match="latents of 2 levels: expected a list of 3"):
        model.decode(model.encode(tones(1))[:2])


@pytest.mark.parametrize("family", FAMILIES)
def test_arrays_are_recordings_too(family):
    model, values = awake(family).eval(), plucked(1, 3 * SAMPLES)
    for array in (values, values.astype(np.float32), values[::-1]):
        audio = torch.from_numpy(np.ascontiguousarray(array))
        expected = audiovae.reconstruct_recording(model, audio)
        assert torch.equal(audiovae.reconstruct_recording(model, array), expected)
        assert torch.equal(
            audiovae.interpolate_recordings(model, array, values, [0.3])[0],
            audiovae.interpolate_recordings(model, audio, torch.from_numpy(values), [0.3])[0],
        )
        coded = audiovae.encode_recording(model, array)
        assert torch.equal(coded.latents[0], audiovae.encode_recording(model, audio).latents[0])


@pytest.mark.parametrize(
    "audio", [[0.1, 0.2], None, "song.wav", np.zeros(9, np.int16), np.array(["a"]), np.zeros((2, 9))]
)
def test_what_is_no_recording(audio):
    model = awake("vae").eval()
    with pytest.raises(ModelError, match=r"expected .*\[T\] floats"):
        audiovae.reconstruct_recording(model, audio)
    with pytest.raises(ModelError, match=r"expected .*\[T\] floats"):
        audiovae.interpolate_recordings(model, torch.zeros(9), audio, [0.5])
    with pytest.raises(ModelError, match=r"expected .*\[T\] floats"):
        audiovae.encode_recording(model, audio)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [((0,), "count is 0"), ((-1,), "count is -1"), ((1, -1.0), "temperature is"), ((1, np.nan), "nan")],
)
def test_draws_that_cannot_be(arguments, said):
    with pytest.raises(ModelError, match=said):
        audiovae.sample_chunks(awake("vae").eval(), *arguments)
