"""The evaluation command on a real tiny run."""

import csv
import json
import re

import pytest
import soundfile
from conftest import SAMPLES, train

from shards import Split


@pytest.mark.parametrize("family", ["vae", "hvae", "vqvae"])
def test_a_report_to_hear_and_to_read(family, straight, data_dir):
    run = straight(family)
    said = train(["evaluate", str(run), "--examples", "2"])
    report = run / "report"
    assert str(report / "index.html") in said.replace("\n", "")
    split = Split.open(data_dir, "valid")
    with open(report / "metrics.csv") as file:
        rows = list(csv.DictReader(file))
    assert [row["chunk"] for row in rows] == split.names(range(len(split)))
    summary = json.loads((report / "metrics.json").read_text())
    mean = sum(float(row["mse"]) for row in rows) / len(rows)
    assert summary["reconstruction"]["mse"] == pytest.approx(mean, rel=1e-4)
    assert summary["floors"]["silence"]["mse"] > 0
    assert summary["recordings"][0]["path"].startswith("tune-")
    wanted = "codes_used" if family == "vqvae" else "active_units"
    assert all(wanted in level for level in summary["latents"])
    levels = 3 if family == "hvae" else 1
    if family != "vqvae":
        assert len(summary["latents"]) == levels
        assert all(level["kl_nats_per_second"] >= 0 for level in summary["latents"])
    known = [row["known"] for row in summary["levels"]]
    assert known == ([[0, 1, 2], [1, 2], [2], [0, 1], [0]] if family == "hvae" else [])
    assert all(row["stft"] > 0 for row in summary["levels"])
    assert ("levels 1, 2 only" in said) == (family == "hvae")
    assert summary["split_fingerprint"] == split.fingerprint
    ranked = sorted(float(row["si_sdr"]) for row in rows)
    best, rate = soundfile.read(report / "audio" / "best-1-reference.wav")
    assert len(best) == SAMPLES
    assert rate == split.rate
    assert ("levels 1, 2 only" in (report / "index.html").read_text()) == (family == "hvae")
    page = (report / "index.html").read_text()
    assert f"{ranked[-1]:.3g} dB" in page
    assert f"{ranked[0]:.3g} dB" in page
    players = re.findall(r"<audio[^>]*src=\"(.{20})", page)
    # Pairs of three kinds and of one recording, and draws at two temperatures; there is no second recording.
    assert len(players) == 2 * (2 * 3 + 1) + 2 * 4
    assert "Between two recordings" not in page
    assert all(player.startswith("data:audio/flac") for player in players)
    assert not re.search(r"(src|href)=\"(?!data:|#)", page), "nothing is fetched"


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        (["--split", "test"], "no split 'test'"),
        (["--data", "/nowhere"], "dataset.json"),
        (["--device", "abacus"], "--device abacus"),
        (["--examples", "0"], "examples"),
    ],
)
def test_wrong_input_is_one_line(more, expected, straight):
    said = train(["evaluate", str(straight("vae")), *more], code=1)
    assert said.startswith("error: ")
    assert expected in said
    assert len(said.strip().splitlines()) == 1


def test_no_run_there(tmp_path):
    assert "run.json" in train(["evaluate", str(tmp_path)], code=1)
    (tmp_path / "file").touch()
    said = train(["evaluate", str(tmp_path / "file")], code=1)
    assert "Not a directory" in said
    assert "Traceback" not in said
