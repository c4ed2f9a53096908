"""The description of latents in a manifest, which may be a stranger's."""

import pytest
from tiny_priors import LATENTS, SHARED

from audiovae.priors.latents import LatentsConfig
from audiovae.saved.kinds import latents_of

SOUND = SHARED | LATENTS["real"]


def test_a_sound_description():
    assert latents_of({"latents": SOUND}) == LatentsConfig(**SOUND)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rows": "3"}, "rows must be a whole number"),
        ({"rows": 1 << 17}, "rows is 131072"),
        ({"frames": 0}, "frames is 0"),
        ({"rate": 1 << 39}, "rate is"),
        ({"stride": 1 << 39}, "stride is"),
        ({"fade": -2}, "fade is -2"),
        ({"fade": 3, "chunk_frames": 7}, "12 frames are no whole chunks of 7"),
        ({"model": ["x"]}, "model is"),
        ({"family": {}}, "family is"),
        ({"kind": "x"}, "kind is 'x'"),
        ({"kind": None}, "kind must be text"),
        ({"size": 2.5}, "size must be a whole number"),
        ({"extra": 1}, "unknown setting 'extra'"),
    ],
    ids=str,
)
def test_a_damaged_description_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        latents_of({"latents": SOUND | changes})


@pytest.mark.parametrize("latents", [None, [1], "x", {}, {k: v for k, v in SOUND.items() if k != "fade"}], ids=str)
def test_an_incomplete_description_is_refused(latents):
    with pytest.raises(ValueError, match=r"not an object|is missing"):
        latents_of({"latents": latents})
