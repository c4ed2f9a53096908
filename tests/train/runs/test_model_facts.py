"""The model card of a finished run, and the measures that an evaluation adds."""

import json
import shutil

import yaml

import audiovae
from shards import Split
from tests.train.conftest import STEPS, train


def test_a_run_ends_with_a_card_and_the_evaluation_adds_to_it(data_dir, straight, tmp_path):
    run = tmp_path / "a-run"
    shutil.copytree(straight("hvae"), run, symlinks=True)
    card = run / "model" / "README.md"
    text, facts = card.read_text(), audiovae.load(run).facts
    assert yaml.safe_load(text.split("---\n")[1])["library_name"] == "audiovae"
    assert f"{STEPS} steps over {6 * STEPS} chunks" in text
    split = Split.open(data_dir, "train")
    assert facts.data["fingerprint"] == split.fingerprint
    assert (facts.data["recordings"], facts.data["chunks"]) == (3, len(split))
    assert facts.settings["optim.steps"] == STEPS
    assert len(facts.nats_per_second) == 3
    assert "Measured at the end of training" in text
    for file in (card, run / "model" / "facts.json"):
        assert str(data_dir) not in file.read_text()
        assert str(tmp_path) not in file.read_text()

    card.write_text(text.replace("# license: say", "license: cc-by-4.0\n# said"))
    assert f"card:    {card}" in train(["evaluate", str(run), "--examples", "1"]).replace("\n/", "/")
    found = json.loads((run / "report" / "metrics.json").read_text())
    text = card.read_text()
    assert f"{found['reconstruction']['mse']:.4g}" in text
    assert f"{found['chunks']} chunks of `valid`" in text
    assert "license: cc-by-4.0\n" in text
    assert "Measured at the end" not in text
    assert audiovae.load(run).facts.measures["stft"] == found["reconstruction"]["stft"]

    def again(split: str) -> None:
        train(["evaluate", str(run), "--split", split, "--examples", "1", "--no-yardsticks"])

    (run / "model" / "facts.json").unlink()  # a run of a version without model cards
    card.unlink()
    again("valid")
    assert audiovae.load(run).facts.data == facts.data
    assert f"{found['reconstruction']['mse']:.4g}" in card.read_text()

    before = card.read_text()
    again("train")
    assert card.read_text() == before, "training chunks are not held out"
