"""Chunk lengths that are proposed where a model cannot take the one at hand."""

import pytest

import audiovae
from audiovae.layers.trunk import LengthError
from audiovae.models.families import FAMILIES
from audiovae.models.lengths import nearest_lengths
from audiovae.models.settings import from_dict
from tests.audiovae.tiny_models import TRUNK

MEL = {"kind": "mel", "bands": 8, "n_fft": 512, "hop": 60, "multiple": 4}
HVAE = {"trunk": TRUNK, "level_strides": [3], "level_channels": [16], "latents": [8, 4], "free_nats": [0.0, 0.0]}
CASES = [
    ("vae", {"trunk": TRUNK}, 2204, [2100, 2205]),
    ("vae", {"trunk": TRUNK}, 100, [105]),
    ("vqvae", {"trunk": TRUNK}, 2206, [2205, 2310]),
    ("hvae", HVAE, 2000, [1890, 2205]),
    ("vae", {"trunk": TRUNK | {"strides": [3, 2]}, "representation": MEL}, 961, [720, 1440]),
    ("vae", {"trunk": TRUNK | {"strides": [3, 2]}, "representation": MEL | {"n_fft": 1500}}, 961, [1440]),
]


@pytest.mark.parametrize(("family", "settings", "samples", "expected"), CASES)
def test_the_nearest_lengths_fit(family, settings, samples, expected):
    with pytest.raises(LengthError):
        audiovae.build(family, settings, samples, 8000)
    assert nearest_lengths(from_dict(FAMILIES[family][1], settings), samples) == expected
    for length in expected:
        audiovae.build(family, settings, length, 8000)
