"""Recordings between two others, in one pass and in chunks."""

import dataclasses

import numpy as np
import pytest
import torch

from audiovae import ModelError, generate_recordings
from audiovae.priors.building import make_prior
from audiovae.priors.settings import PriorConfig, PriorSettings, TransformerConfig
from audiovae.recordings.overlap_add import gain_of
from audiovae.recordings.sequences import Frames, audio_of, layout_of, sequence_of
from tests.audiovae.tiny_models import RATE, awake, plucked

TINY = PriorSettings(TransformerConfig(width=16, layers=1, heads=2))


def prior_of(model, windows: int, **changes):
    """A prior without training for latents of so many grains."""
    frames = Frames(model)
    latents = dataclasses.replace(layout_of(model, windows * frames.grain), **changes)
    torch.manual_seed(0)
    return make_prior(PriorConfig(latents, TINY), latents.numbers, 1000).eval()


@pytest.mark.parametrize("kind", ["vae with levels", "hvae"])
def test_new_sound_lies_between_two_recordings(kind):
    model = awake(kind).eval()
    frames = Frames(model)
    prior = prior_of(model, 40 if frames.fade < 0 else 4)
    start, end = (torch.from_numpy(plucked(seed, 9000 + 700 * seed)).float() for seed in (1, 2))
    start, end = 0.3 * start, 0.15 * end
    first, second = generate_recordings(prior, model, 2, 0.4, seed=1, start=start, end=end)
    step = frames.samples(2 * frames.grain) - frames.samples(frames.grain)
    known = frames.fitting(len(start)) // frames.grain * step
    gap = len(first) - known - len(end)
    assert gap % step == 0
    assert abs(gap - 0.4 * RATE) <= step / 2
    # Both ends are what the autoencoder makes of the recordings, as loud beside each other as they were.
    gain = gain_of(torch.cat([start, end]), model.level)
    away = 3000  # from what a decoder looks at on the other side
    for one in (first, second):
        for audio, place in ((start, slice(0, known - away)), (end, slice(known + gap + away, None))):
            alone = audio_of(model, sequence_of(model, audio * gain, frames)) / gain
            part = one[place]
            expected = alone[: len(part)] if place.start == 0 else alone[away : away + len(part)]
            np.testing.assert_allclose(part.numpy()[:-away], expected.numpy()[:-away], atol=2e-3)
    between = slice(known + 500, known + gap - 500)
    assert (first - second)[between].abs().max() > 1e-3


def test_what_cannot_be_drawn_between_is_refused():
    model = awake("vae").eval()
    prior = prior_of(model, 40)
    audio = torch.from_numpy(plucked(1, 9000)).float()
    with pytest.raises(ModelError, match=r"^an end without a start: give both"):
        generate_recordings(prior, model, end=audio)
    with pytest.raises(ModelError, match=r"^the recording to continue is shorter than"):
        generate_recordings(prior, model, start=audio[:5], end=audio)
    codes = awake("vqvae").eval()
    with pytest.raises(ModelError, match=r"^this prior of codes cannot fill a gap"):
        generate_recordings(prior_of(codes, 40), codes, start=audio, end=audio)
    with pytest.raises(ModelError, match=r"^label 'x': this prior has learned no labels"):
        generate_recordings(prior, model, label="x")
