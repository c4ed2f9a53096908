"""`save_pretrained`, `from_pretrained` and the model card, without a network."""

import dataclasses
import errno
import json
from types import SimpleNamespace

import pytest
import torch
import yaml
from huggingface_hub import ModelCard
from tiny_models import FAMILIES, awake, tones

import audiovae
from audiovae import Facts, ModelError
from audiovae.models.hvae import HVAE
from audiovae.models.vae import VAE

FACTS = Facts(
    name="piano",
    steps=1234567,
    chunks_seen=99,
    data={"fingerprint": "abc", "recordings": 3, "hours": 0.5},
    settings={"optim.lr": 0.002},
    measures={"si_sdr": 12.345},
    measured_on={"split": "valid", "chunks": 64, "fingerprint": "def"},
)


@pytest.fixture(autouse=True)
def _offline(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


@pytest.mark.parametrize("family", FAMILIES)
def test_there_and_back(family, tmp_path):
    model, audio = awake(family).eval(), tones(2)
    model.save_pretrained(tmp_path / "it")
    for load in (audiovae.from_pretrained, audiovae.Autoencoder.from_pretrained, type(model).from_pretrained):
        found = load(tmp_path / "it")
        assert type(found) is type(model)
        assert not found.training
        assert torch.equal(found.reconstruct(audio), model.reconstruct(audio))
    assert audiovae.fingerprint(found) == audiovae.fingerprint(model)
    assert audiovae.fingerprint(awake(family, seed=1)) != audiovae.fingerprint(model)
    assert json.loads((tmp_path / "it" / "config.json").read_text())["family"] == family
    assert not [file for file in (tmp_path / "it").iterdir() if file.suffix in (".bin", ".pt", ".pkl", ".tmp")]


def test_a_model_of_another_family(tmp_path):
    awake("vae").save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="a VAE, not a HVAE"):
        HVAE.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    ("place", "said"),
    [
        (
            "nobody/nothing",
            "neither a folder nor an available model on the Hub .the Hub cannot be reached and the cache has no copy",
        ),
        ("no such folder", "no such folder; a model on the Hub has a name of the form owner/name"),
        ("a/b/c", "no such folder"),
        ("./a", "no such folder"),
        ("runs/typo", "no such folder"),
    ],
)
def test_nothing_there(place, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    with pytest.raises(ModelError, match=said) as caught:
        audiovae.from_pretrained(place, cache_dir=tmp_path / "cache")
    assert "\n" not in str(caught.value)


def test_pretrained_onto_a_file_or_another_family_is_one_line_and_harms_nothing(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ModelError, match=r"file: cannot be written \(it is a file, not a folder\)"):
        awake("vae").save_pretrained(tmp_path / "file")
    assert (tmp_path / "file").read_text() == "mine"
    awake("vae").save_pretrained(tmp_path / "it")
    with pytest.raises(ModelError, match="another family, vae"):
        awake("hvae").save_pretrained(tmp_path / "it")
    assert audiovae.load(tmp_path / "it").family == "vae"


def test_pretrained_on_a_full_disk_leaves_no_folder(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(audiovae.saved.model_folder, "save_file", full)
    with pytest.raises(ModelError, match=r"cannot be written \(No space left on device\)"):
        awake("vae").save_pretrained(tmp_path / "a" / "b")
    assert not list(tmp_path.iterdir())


def test_uploading_saves_the_folder_that_loads(tmp_path, monkeypatch):
    model, seen = awake("vae"), []
    monkeypatch.setattr("huggingface_hub.hub_mixin.HfApi.create_repo", lambda *_, **given: SimpleNamespace(**given))

    def upload(*_, folder_path, **given):
        seen.append((given["repo_id"], audiovae.fingerprint(audiovae.load(folder_path))))

    monkeypatch.setattr("huggingface_hub.hub_mixin.HfApi.upload_folder", upload)
    model.push_to_hub("me/piano")
    model.save_pretrained(tmp_path / "piano", push_to_hub=True)
    assert seen == [("me/piano", audiovae.fingerprint(model)), ("piano", audiovae.fingerprint(model))]


def test_the_facts_travel_with_the_model(tmp_path):
    audiovae.save(awake("vae"), tmp_path / "first", facts=FACTS)
    model = audiovae.load(tmp_path / "first")
    assert model.facts == FACTS
    model.save_pretrained(tmp_path / "second")
    assert VAE.from_pretrained(tmp_path / "second").facts == FACTS
    assert (tmp_path / "first" / "README.md").read_text() == (tmp_path / "second" / "README.md").read_text()


@pytest.mark.parametrize("family", FAMILIES)
def test_the_card_says_what_is_known(family, tmp_path):
    audiovae.save(awake(family), tmp_path, facts=dataclasses.replace(FACTS, nats_per_second=[100.0, 20.0]))
    text = (tmp_path / "README.md").read_text()
    header = yaml.safe_load(text.split("---\n")[1])
    assert header["library_name"] == "audiovae"
    assert family in header["tags"]
    assert "license" not in header, "the user's to say"
    assert ModelCard.load(tmp_path / "README.md").data.to_dict()["tags"] == header["tags"]
    for told in ("# piano", "1,234,567 steps", "22050 Hz", "2205 samples", "| recordings | 3 |", "12.35", "`optim.lr`"):
        assert told in text
    rate = "5.04 kbit/s" if family == "vqvae" else "120 nats/s above the prior"
    assert rate in text
    assert "64 chunks of `valid`" in text
    code = text.split("```python\n")[1].split("```")[0]
    compile(code, "card", "exec")


def test_measures_come_later_and_leave_what_people_wrote(tmp_path):
    audiovae.save(awake("vqvae"), tmp_path, facts=Facts())
    card = tmp_path / "README.md"
    assert "No measures yet" in card.read_text()
    card.write_text(card.read_text().replace("# license: ", "license: mit # ") + "\nRecorded in my kitchen.\n")
    for value in (1.5, 2.5):
        assert audiovae.add_measures(tmp_path, {"si_sdr": value}, {"split": "test", "chunks": 5})
    text = card.read_text()
    assert "Recorded in my kitchen." in text
    assert yaml.safe_load(text.split("---\n")[1])["license"] == "mit"
    assert "| SI-SDR, dB | 2.5 |" in text
    assert "No measures yet" not in text
    assert "1.5" not in text
    assert audiovae.load(tmp_path).facts.measures == {"si_sdr": 2.5}
    card.write_text("My own words.\n")
    assert not audiovae.add_measures(tmp_path, {"si_sdr": 3.5}, {})
    assert card.read_text() == "My own words.\n"


@pytest.mark.parametrize("text", ["", "[]", "{", '{"steps": "many"}', '{"colour": 1}', '{"data": null}'])
def test_damaged_facts(text, tmp_path):
    audiovae.save(awake("vae"), tmp_path, facts=FACTS)
    (tmp_path / "facts.json").write_text(text)
    with pytest.raises(ModelError, match=r"facts\.json: damaged .*remove it"):
        audiovae.load(tmp_path)


def test_checkpoints_have_no_card(tmp_path):
    audiovae.save(awake("vae"), tmp_path)
    assert not (tmp_path / "README.md").exists()
    assert audiovae.load(tmp_path).facts is None


def test_a_card_that_is_not_utf8_is_one_line_and_stays(tmp_path):
    awake("vae").save_pretrained(tmp_path)
    (tmp_path / "README.md").write_bytes("Stücke".encode("latin-1"))
    with pytest.raises(ModelError, match=r"README\.md: not UTF-8"):
        audiovae.add_measures(tmp_path, {"si_sdr": 1.0}, {"split": "valid", "chunks": 1})
    assert (tmp_path / "README.md").read_bytes() == "Stücke".encode("latin-1")
