"""What a prior of several data sets of latents has learned from; the real commands are in the other tests."""

from types import SimpleNamespace

import pytest

import audiovae
from audiovae.saved.prior_folder import AUTOENCODER
from tests.audiovae.tiny_models import awake
from train.errors import TrainError
from train.evaluation.generation import lineage
from train.training.companion import keep_autoencoder

RUN = SimpleNamespace(config={"data.path": "a + b:0.3"})


def source(fingerprint: str, split: str) -> SimpleNamespace:
    return SimpleNamespace(fingerprint=fingerprint, split=split, chunks=1, path=f"{fingerprint}.wav")


def latents(encoded: str, *recordings: str, counts: list[int] | None = None) -> SimpleNamespace:
    settings = {lineage.ENCODED: encoded} | ({lineage.LABELS: {"recordings": counts}} if counts else {})
    return SimpleNamespace(settings=settings, sources=[source(name, "train") for name in recordings])


@pytest.fixture
def of_sets(monkeypatch):
    def give(*sets: SimpleNamespace) -> None:
        monkeypatch.setattr(lineage, "load_joined", lambda text: (None, [*sets], text))

    return give


def test_recordings_of_any_set_of_latents_are_known(of_sets):
    manifest = SimpleNamespace(fingerprint="own", sources=[source("one", "valid"), source("two", "train")])
    split = SimpleNamespace(manifest=manifest, name="valid", where="data")
    of_sets(latents("own", "two"))
    assert lineage.is_what_was_encoded(RUN, split) is True
    of_sets(latents("own", "two"), latents("another", "three"))
    assert lineage.is_what_was_encoded(RUN, split) is False
    of_sets(latents("own", "two"), latents("another", "one"))
    with pytest.raises(TrainError, match=r"learned from 1 of the 1 recordings of split 'valid', such as one.wav"):
        lineage.is_what_was_encoded(RUN, split)


def test_labels_of_several_sets_count_together(of_sets):
    of_sets(latents("x", counts=[0, 3, 0]), latents("y", counts=[0, 0, 1]))
    assert lineage.labels_in_turn(RUN, ["low", "high"], 4).count("low") == 3
    of_sets(latents("x", counts=[0, 3, 0]), latents("y"))
    assert lineage.labels_in_turn(RUN, ["low", "high"], 4).count("low") == 2


def test_a_prior_of_several_sets_keeps_their_autoencoder(tmp_path):
    audiovae.save(awake("vqvae", codebooks=2, size=16), tmp_path / "b" / AUTOENCODER)
    wanted = audiovae.fingerprint(audiovae.load(tmp_path / "b" / AUTOENCODER))
    split = SimpleNamespace(manifest=SimpleNamespace(settings={"latents": {"model": wanted}}))
    (tmp_path / "run").mkdir()
    keep_autoencoder(tmp_path / "run", f"{tmp_path}/a + {tmp_path}/b/:0.3", split)
    assert audiovae.fingerprint(audiovae.load(tmp_path / "run" / AUTOENCODER)) == wanted
