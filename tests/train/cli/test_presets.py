"""What the builder knows of the presets is what their models say."""

import math
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml

import audiovae
from audiovae.layers.spectra import mel_filters
from audiovae.models.families import FAMILIES
from audiovae.models.settings import from_dict
from shards.presets import RULES, fitting_presets
from train.cli.presets import presets
from train.config import DataConfig, VAERun
from train.errors import TrainError
from train.optim.objective import VAEWeights
from train.training.attempt import build_model

SAMPLES = (210, 490, 1024, 1025, 2205, 11025, 16000, 22050, 24000, 24010, 44100, 48000, 66150)


def family_of(name: str) -> str:
    return next(family for family in ("hvae", "vqvae", "vae") if family in name)


def settings_of(name: str) -> dict:
    return yaml.safe_load(presets()[name].read_text())["model"]


def of_audio() -> list[str]:
    """Presets of autoencoders; those of priors take any latents."""
    return [name for name in presets() if not name.startswith("prior")]


def takes(name: str, samples: int, rate: int) -> bool:
    """Whether the preset's model can be built; its weights are not made."""
    try:
        with torch.device("meta"):
            audiovae.build(family_of(name), {**settings_of(name)}, samples, rate)
    except ValueError:
        return False
    return True


def test_all_presets_are_known():
    assert [*RULES] == of_audio()
    for name, rule in RULES.items():
        config = from_dict(FAMILIES[family_of(name)][1], settings_of(name))
        shape = config.representation
        assert rule.strides == math.prod(getattr(config, "tower", config.trunk).strides)
        levels = getattr(config, "levels", None)
        assert rule.hold == (levels.hold if levels and levels.bands else 1)
        if shape.kind == "mel":
            assert (rule.hop, rule.multiple, rule.n_fft) == (shape.hop, shape.multiple, shape.n_fft)
            mel_filters(shape.bands, shape.n_fft, rule.highest_rate)
            with pytest.raises(ValueError, match="mel bands"):
                mel_filters(shape.bands, shape.n_fft, rule.highest_rate + 1)
        else:
            assert (rule.hop, rule.multiple, rule.n_fft) == (1, 1, 0)


@pytest.mark.parametrize("rate", [22050, 96000])
def test_a_preset_fits_where_its_model_can_be_built(rate):
    for samples in SAMPLES:
        made_for_it = [name for name in of_audio() if RULES[name].lowest_rate <= rate]
        assert fitting_presets(samples, rate) == [name for name in made_for_it if takes(name, samples, rate)], samples


def test_the_default_chunk_fits_all_presets():
    assert fitting_presets(22050) == [name for name in of_audio() if "_44k" not in name and "_48k" not in name]
    for rate, name in ((44100, "44k"), (48000, "48k")):
        made_for_it = {f"{family}_{name}{size}" for family in ("vae", "hvae", "vqvae") for size in ("", "_tiny")}
        assert made_for_it <= {*fitting_presets(rate, rate)}
    assert fitting_presets(22051) == ["study/mel_vae"]


def test_a_chunk_that_does_not_fit_is_refused_with_the_lengths_and_presets_that_do():
    model = from_dict(FAMILIES["vae"][1], settings_of("vae_tiny"))
    config = VAERun(DataConfig("data"), Path("run"), model=model, weights=VAEWeights(levels=0.03))
    split = SimpleNamespace(samples=48000, rate=48000, channels=1, where="data", manifest=SimpleNamespace(settings={}))
    with pytest.raises(TrainError) as caught:
        build_model(config, "vae", split)
    said = str(caught.value)
    assert "98 does not divide 48000 frames" in said
    assert "The nearest lengths that fit are 47,530 and 48,020 samples: build the data again" in said
    assert "python -m shards build ... --samples 48020; or use a preset that fits these chunks: hvae_48k" in said
    assert "\n" not in said
