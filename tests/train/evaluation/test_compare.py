"""Comparisons of runs."""

import csv
import errno
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from shards.building.build import build
from shards.files import sealed
from tests.train.conftest import RATE, SAMPLES, train, tune
from train.__main__ import run
from train.errors import TrainError
from train.evaluation.compare import names_of, read_report
from train.evaluation.measuring.metrics import measure
from train.evaluation.report.comparison import best
from train.evaluation.report.measures import KNOWN
from train.evaluation.statistics.paired import paired_difference
from train.runs.record import Record


@pytest.fixture(scope="module")
def runs(tmp_path_factory, straight):
    """Copies of two runs on the same data, with reports."""
    folder = tmp_path_factory.mktemp("compared")
    for family in ("vae", "vqvae"):
        shutil.copytree(straight(family), folder / family)
        shutil.rmtree(folder / family / "report", ignore_errors=True)
        assert run(["evaluate", str(folder / family), "--examples", "1"]) == 0
    return folder


def error_of(words: list[str], capsys: pytest.CaptureFixture) -> str:
    """The one-line error of a command that fails."""
    capsys.readouterr()
    assert run(words) == 1
    said = capsys.readouterr()
    assert said.err.startswith("error: ")
    assert len(said.err.strip().splitlines()) == 1
    return said.err


def test_one_table_the_curves_and_the_same_chunks(runs, tmp_path):
    out = tmp_path / "both"
    said = train(["compare", str(runs / "vae"), str(runs / "vqvae"), "--out", str(out), "--examples", "1"])
    assert str(out / "index.html") in said.replace("\n", "")
    content = json.loads((out / "comparison.json").read_text())
    assert content["warnings"] == []
    page = (out / "index.html").read_text()
    assert "Limits of this comparison" not in page
    own = json.loads((runs / "vae/report/metrics.json").read_text())["reconstruction"]
    assert content["runs"]["vae"]["si_sdr"] == own["si_sdr"]
    assert content["runs"]["vae"]["level_error_high"] > 0
    assert "level error above 4 kHz, dB" in page
    assert page.count("★ best") > 1
    # The difference is the mean over the chunks.
    tables = [csv.DictReader((runs / name / "report/metrics.csv").open()) for name in ("vae", "vqvae")]
    vae, vqvae = (np.array([float(row["si_sdr"]) for row in table]) for table in tables)
    found = content["runs"]["vqvae"]["si_sdr_difference"]
    assert found["to"] == "vae"
    assert found["mean"] == pytest.approx((vqvae - vae).mean())
    assert found["interval"][0] <= found["mean"] <= found["interval"][1]
    assert f"vqvae against vae: {found['mean']:+.2f} dB" in said
    assert f"vqvae {vqvae.min():.3g} dB" in page or "SI-SDR: vae" in page
    labels = re.findall(r'<audio[^>]*aria-label="(\w+), (\w+) example', page)
    kinds = ("differing", "easy", "middling", "hard")
    assert sorted(labels) == sorted((who, kind) for who in ("Reference", "Vae", "Vqvae") for kind in kinds)
    charts = re.findall(r'role="img" aria-label="MSE: (.*?)"', page)
    assert len(charts) == 1
    assert "vae: from" in charts[0]
    assert "vqvae: from" in charts[0]
    assert {file.name for file in (out / "audio/hard-1").iterdir()} == {"0-reference.wav", "1-vae.wav", "2-vqvae.wav"}
    # The hardest example has the worst measured SI-SDR, averaged over the runs.
    heard = [torch.from_numpy(soundfile.read(file)[0]) for file in sorted((out / "audio/hard-1").iterdir())]
    reference, *others = (audio.view(1, 1, SAMPLES) for audio in heard)
    found = [measure(other, reference, RATE)["si_sdr"].item() for other in others]
    tables = [csv.DictReader((runs / name / "report/metrics.csv").open()) for name in ("vae", "vqvae")]
    worst = min(zip(*([float(row["si_sdr"]) for row in table] for table in tables), strict=True), key=sum)
    assert found == pytest.approx(worst, abs=0.3)
    # Compare again with a chunk that one report counts as silent: it is no longer an example.
    shutil.copytree(runs / "vqvae", tmp_path / "vqvae")
    table = tmp_path / "vqvae/report/metrics.csv"
    lines = table.read_text().splitlines()
    place = lines[0].split(",").index("si_sdr")
    first = lines[1].split(",")
    lines[1] = ",".join([*first[:place], "", *first[place + 1 :]])
    table.write_text("\n".join(lines) + "\n")
    summary = tmp_path / "vqvae/report/metrics.json"
    content = json.loads(summary.read_text())
    del content["chunks_sha256"]
    summary.write_text(json.dumps(sealed(content)))
    again = ["compare", str(runs / "vae"), str(tmp_path / "vqvae"), "--out", str(out), "--examples", "99"]
    assert run(again) == 0
    start = int(first[0].removesuffix(".wav").split("_")[1]) / RATE
    assert f"s, starting at {start:.2f} s" not in (out / "index.html").read_text()


def test_other_data_is_a_warning_on_the_page(runs, tmp_path):
    """The page shows the measures of a run on other recordings, but warns that they cannot be compared."""
    audio = tmp_path / "tunes"
    audio.mkdir()
    for seed in range(6):
        soundfile.write(audio / f"other-{seed}.wav", tune(2.0, 50 + seed), RATE)
    build(audio, tmp_path / "data", samples=SAMPLES, hop=SAMPLES, valid=0.5, workers=1)
    shutil.copytree(runs / "vqvae", tmp_path / "elsewhere")
    card = (tmp_path / "elsewhere/model/README.md").read_text()
    assert run(["evaluate", str(tmp_path / "elsewhere"), "--data", str(tmp_path / "data"), "--examples", "1"]) == 0
    assert (tmp_path / "elsewhere/model/README.md").read_text() == card, (
        "the card keeps the measures of its own held-out recordings"
    )
    out = tmp_path / "out"
    assert run(["compare", str(runs / "vae"), str(tmp_path / "elsewhere"), "--out", str(out)]) == 0
    line = "elsewhere was measured on different chunks than vae: their measures cannot be compared."
    assert json.loads((out / "comparison.json").read_text())["warnings"] == [line]
    page = (out / "index.html").read_text()
    assert line in page
    assert "★ best<" not in page, "only one run is ranked"
    assert "not those of vae" in page
    figures = re.findall(r"SI-SDR: (.*?)<", page)
    assert figures
    assert not any("elsewhere" in line for line in figures), "same chunk names, but other recordings"
    assert "si_sdr_difference" not in (out / "comparison.json").read_text()
    file = tmp_path / "elsewhere/run.json"
    file.write_bytes(replace(Record.from_bytes(file.read_bytes()), data_fingerprint="0" * 32).to_bytes())
    assert run(["compare", str(runs / "vae"), str(tmp_path / "elsewhere"), "--out", str(out)]) == 0
    assert "elsewhere was trained on different data than vae." in (out / "index.html").read_text()


def test_weights_that_are_newer_than_their_measures_are_told(runs, tmp_path):
    shutil.copytree(runs / "vqvae", tmp_path / "trained-on")
    file = tmp_path / "trained-on/report/metrics.json"
    file.write_text(json.dumps(sealed({**json.loads(file.read_text()), "model": "step-00000006"})))
    out = tmp_path / "out"
    assert run(["compare", str(runs / "vae"), str(tmp_path / "trained-on"), "--out", str(out)]) == 0
    line = (
        "The audio of trained-on uses the weights model, but its measures are those of step-00000006: "
        "evaluate it again."
    )
    assert json.loads((out / "comparison.json").read_text())["warnings"] == [line]


def test_what_cannot_be_compared_is_one_line(runs, straight, tmp_path, capsys):
    vae, vqvae = str(runs / "vae"), str(runs / "vqvae")
    assert "two or more runs" in error_of(["compare", vae], capsys)
    assert "named twice" in error_of(["compare", vae, vqvae, f"{vae}/."], capsys)
    assert "cannot read run.json" in error_of(["compare", vae, str(tmp_path)], capsys)
    shutil.copytree(runs / "vqvae", tmp_path / "new")
    shutil.rmtree(tmp_path / "new/report")
    assert f"not evaluated yet; run: python -m train evaluate {tmp_path}/new" in error_of(
        ["compare", vae, str(tmp_path / "new")], capsys
    )
    (tmp_path / "new/report").mkdir()
    (tmp_path / "new/report/metrics.json").write_text("{")
    assert "damaged" in error_of(["compare", vae, str(tmp_path / "new")], capsys)
    whole = json.loads((runs / "vqvae/report/metrics.json").read_text())
    for key, wrong in (("reconstruction", None), ("latents", {}), ("chunks", "many")):
        (tmp_path / "new/report/metrics.json").write_text(json.dumps(sealed({**whole, key: wrong})))
        assert f"no '{key}'" in error_of(["compare", vae, str(tmp_path / "new")], capsys)
    shutil.rmtree(tmp_path / "new/report")
    shutil.copytree(runs / "vqvae/report", tmp_path / "new/report")
    for file, old, new in (("metrics.json", '"chunks": ', '"chunks": 1'), ("metrics.csv", "\n00", "\n10")):
        content = (tmp_path / "new/report" / file).read_text()
        assert old in content
        (tmp_path / "new/report" / file).write_text(content.replace(old, new, 1))
        told = error_of(["compare", vae, str(tmp_path / "new")], capsys)
        assert f"damaged, or from another version (the checksum of {file} does not match its content); run: " in told
        (tmp_path / "new/report" / file).write_text(content)
    for key in ("checksum", "chunks_sha256"):  # as in a report of an older version
        whole.pop(key)
    (tmp_path / "new/report/metrics.json").write_text(json.dumps(whole))
    assert len(read_report(tmp_path / "new", "new").chunks) == whole["chunks"]
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.txt").touch()
    assert "not a comparison" in error_of(["compare", vae, vqvae, "--out", str(tmp_path / "mine")], capsys)
    nowhere = ["compare", vae, vqvae, "--data", "/nowhere", "--out", str(tmp_path / "out")]
    assert "--data DIR" in error_of(nowhere, capsys)
    assert not (tmp_path / "out").exists()


def test_a_comparison_that_was_ended_early_is_made_again(runs, tmp_path, monkeypatch):
    words = ["compare", str(runs / "vae"), str(runs / "vqvae"), "--out", str(tmp_path / "out"), "--examples", "1"]

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device", "some.wav")

    with monkeypatch.context() as ended:
        ended.setattr("train.evaluation.compare.write_wav", full)
        assert run(words) == 1
    assert not (tmp_path / "out" / "index.html").exists()
    assert run(words) == 0
    assert (tmp_path / "out" / "index.html").exists()


def test_names_tell_runs_apart(tmp_path):
    assert names_of([Path("a/hvae"), Path("b/vae")]) == ["hvae", "vae"]
    assert names_of([Path("a/hvae"), Path("b/hvae"), Path("b/vae")]) == ["a/hvae", "b/hvae", "b/vae"]
    assert names_of([Path("a/reference"), Path("b/vae")]) == ["a/reference", "b/vae"], (
        "the original chunk has this name"
    )
    with pytest.raises(TrainError, match="named twice"):
        names_of([Path("a"), Path("b"), Path("c/../a")])


def test_the_best_by_what_is_shown():
    rows = [{"si_sdr": 20.41, "mse": 2.0}, {"si_sdr": 20.42, "mse": 1.0}, {"si_sdr": 3.0, "mse": None}]
    assert best(KNOWN["si_sdr"], rows) == [0, 1]
    assert best(KNOWN["mse"], rows) == [1]
    assert best(KNOWN["cosine"], rows) == []
    assert best(KNOWN["si_sdr"], rows[:2]) == [], "neither is better"


def test_measures_of_training_chunks_and_runs_in_the_making_are_told(runs, straight, tmp_path):
    shutil.copytree(runs / "vae", tmp_path / "ontrain")
    assert run(["evaluate", str(tmp_path / "ontrain"), "--split", "train", "--examples", "1"]) == 0
    shutil.copytree(runs / "vqvae", tmp_path / "stopped")
    (tmp_path / "stopped/DONE").unlink()
    out = tmp_path / "out"
    both = [str(runs / "vae"), str(tmp_path / "stopped"), str(tmp_path / "ontrain")]
    assert run(["compare", *both, "--out", str(out), "--examples", "1"]) == 0
    warnings = json.loads((out / "comparison.json").read_text())["warnings"]
    assert "stopped has not finished training." in warnings
    assert "ontrain was measured on the chunks it was trained on." in warnings
    assert "ontrain was measured on different chunks than vae: their measures cannot be compared." in warnings
    best = re.findall(
        r"<dt>best .*?</dt><dd class=\"value\">.*?</dd><dd class=\"soft small\">(.*?)</dd>",
        (out / "index.html").read_text(),
    )
    assert best
    assert not any("ontrain" in names for names in best)


@given(st.floats(-5, 5), st.integers(2, 30))
@settings(max_examples=25, deadline=None)
def test_a_paired_difference_is_that_of_the_chunks(shift, count):
    """A constant gain on each chunk gives an exact interval, however much the chunks differ."""
    hard = np.random.default_rng(count).normal(0, 20, count)
    first = {f"{i // 3:08d}_{i * 100:012d}.wav": value for i, value in enumerate(hard)}
    other = {name: value + shift for name, value in first.items()}
    mean, ends = paired_difference(first, other, 100)
    assert mean == pytest.approx(shift, abs=1e-9)
    assert ends == pytest.approx((shift, shift), abs=1e-9)
    assert paired_difference(first, dict.fromkeys(first, float("nan")), 100) is None
