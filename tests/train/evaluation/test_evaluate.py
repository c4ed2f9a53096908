"""The evaluation command on a real tiny run."""

import csv
import errno
import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from safetensors.torch import load_file, save_file

from audiovae.saved.model_folder import seal
from shards import Split
from shards.building.build import build
from tests.train.conftest import RATE, ROOT, SAMPLES, start, train, tune
from train.__main__ import run as main_run
from train.evaluation.compare import read_report, table_row
from train.evaluation.yardsticks import perceptual
from train.runs import checkpoint


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
    assert list(summary["sent"]) == (["file"] if family == "vqvae" else ["draws", "file"])
    assert all(row["stft"] > 0 for row in summary["sent"].values())
    assert summary["sent"]["file"]["recordings"] == len(summary["recordings"])
    assert summary["sent"]["file"]["file_bits_per_second"] > 0
    if family != "vqvae":
        drawn = summary["sent"]["draws"]
        assert drawn["kl_bits_per_second"] == pytest.approx(summary["reconstruction"]["kl_bits_per_second"])
        assert drawn["mse"] > summary["reconstruction"]["mse"]
    assert "sent as a file" in said
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
    codes = summary["passages"]["rows"]
    linear = [] if family == "vqvae" else ["linear"]
    assert [row["kind"] for row in codes] == ["model", "file", *["opus"] * (len(codes) - 2 - len(linear)), *linear]
    assert {row.get("asked_kbit_per_second") for row in codes} >= {8.0, 12.0, 16.0, 24.0}
    assert all(row["kbit_per_second"] > 0 for row in codes if row["kind"] != "linear")
    assert "zimtohrli" not in codes[0]
    assert codes[1]["mel"] == pytest.approx(codes[0]["mel"], rel=0.5)
    rate = summary["sent"]["file"]["file_bits_per_second"] / 1000
    assert codes[1]["kbit_per_second"] == pytest.approx(rate, rel=0.1)
    with open(report / "passages.csv") as file:
        passages = list(csv.DictReader(file))
    assert len(passages) == summary["passages"]["count"] * len(codes) == len(codes)
    assert [float(row["mel"]) for row in passages] == pytest.approx([row["mel"] for row in codes], rel=1e-4)
    if linear:
        assert summary["passages"]["linear_from"] == "train"
        values = {"vae": 10 * 210, "hvae": 8 * 210 + 4 * 70 + 4 * 10}[family]
        assert codes[-1]["values_per_second"] == pytest.approx(values, abs=RATE / 512)
    best, rate = soundfile.read(report / "audio" / "best-1-reference.wav")
    assert len(best) == SAMPLES
    assert rate == split.rate
    assert ("levels 1, 2 only" in (report / "index.html").read_text()) == (family == "hvae")
    page = (report / "index.html").read_text()
    assert page.count("s alternative<") == len([row for row in codes if row["kind"] == "opus"])
    assert "SNR by band, dB" in page
    assert ">linear optimum<" in page or not linear
    assert f"{ranked[-1]:.3g} dB" in page
    assert f"{ranked[0]:.3g} dB" in page
    players = re.findall(r"<audio[^>]*src=\"(.{20})", page)
    # Pairs of three kinds and of one recording, and samples at two temperatures; there is no second recording.
    assert len(players) == 2 * (2 * 3 + 1) + 2 * 4
    assert "Interpolation between two recordings" not in page
    assert all(player.startswith(("data:audio/flac", "data:audio/wav")) for player in players)
    assert not re.search(r"(src|href)=\"(?!data:|#)", page), "the page loads nothing"


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


def stripped(report: Path) -> tuple[dict, list[dict]]:
    """metrics.json without checksums, as numbers differ by rounding, and the rows of metrics.csv."""
    summary = json.loads((report / "metrics.json").read_text())
    assert summary.pop("checksum")
    assert summary.pop("chunks_sha256")
    with open(report / "metrics.csv") as file:
        return summary, list(csv.DictReader(file))


def compare(one: Any, other: Any, where: str = "") -> None:
    """Asserts equality up to rounding of numbers."""
    assert type(one) is type(other), where
    if isinstance(one, dict):
        assert list(one) == list(other), where
        for name in one:
            compare(one[name], other[name], f"{where}.{name}")
    elif isinstance(one, list):
        assert len(one) == len(other), where
        for place, pair in enumerate(zip(one, other, strict=True)):
            compare(*pair, f"{where}[{place}]")
    else:
        assert one == (pytest.approx(other, rel=1e-5, abs=1e-6) if isinstance(one, float) else other), where


def test_two_processes_measure_what_one_does(straight, tmp_path):
    """Processes with different numbers of chunks: batches of 32 and a smaller last batch."""
    tunes, data = tmp_path / "tunes", tmp_path / "data"
    tunes.mkdir()
    for seed in range(4):  # silent at first
        soundfile.write(tunes / f"tune-{seed}.wav", np.r_[np.zeros(5 * SAMPLES), tune(3.0, seed)], RATE)
    build(tunes, data, samples=SAMPLES, hop=SAMPLES, valid=0.25, workers=1)
    run = tmp_path / "run"
    shutil.copytree(straight("vqvae"), run)
    words = ["evaluate", str(run), "--examples", "1", "--data", str(data)]
    train(words)
    alone, rows = stripped(run / "report")
    shutil.rmtree(run / "report")
    said = train(words, processes=2)
    assert said.count("report:") == 1
    together, other_rows = stripped(run / "report")
    compare(together, alone)
    assert alone["passages"]["count"] == len(alone["recordings"]), "one passage of each"
    assert [(row["chunk"], row["recording"], row["start_second"]) for row in rows] == [
        (row["chunk"], row["recording"], row["start_second"]) for row in other_rows
    ]
    assert alone["format"] == 2
    assert alone["chunks"] % 32
    assert alone["silent_chunks"] == alone["silent"]["chunks"] == 5 * len(alone["recordings"])
    assert len(rows) == alone["chunks"] == len({row["chunk"] for row in rows})
    assert not list((run / "report").rglob("*.tmp"))
    page = (run / "report" / "index.html").read_text()
    assert f"{alone['silent_chunks']} of the chunks are silent and excluded from all means" in page
    assert "s, starting at 0.50 s" in re.search(r"Passage 1: .*?</article>", page, re.DOTALL)[0]


def test_what_one_process_cannot_read_ends_all_with_one_line(straight, tmp_path):
    """Only the second process reads the last chunks."""
    tunes, data = tmp_path / "tunes", tmp_path / "data"
    tunes.mkdir()
    for seed in range(2):
        soundfile.write(tunes / f"tune-{seed}.wav", tune(4.5, seed), RATE)
    build(tunes, data, samples=SAMPLES, hop=SAMPLES, valid=0.5, workers=1)
    (shard,) = data.glob("valid-*.tar")
    content = bytearray(shard.read_bytes())
    (about,) = json.loads((data / "dataset.json").read_text())["splits"]["valid"]
    assert 32 < about["chunks"] <= 64
    content[len(content) * 15 // 16] ^= 0xFF
    shard.write_bytes(content)
    run = tmp_path / "run"
    # Another test may have evaluated the shared run, so its report is not copied.
    shutil.copytree(straight("vae"), run, ignore=shutil.ignore_patterns("report"))
    said = train(["evaluate", str(run), "--data", str(data)], processes=2, code=1)
    assert said.count("error: ") == 1, said
    assert shard.name in said
    assert "Traceback" not in said.split("error: ")[0]
    assert not (run / "report").exists() or not list((run / "report").iterdir())


def test_training_chunks_are_called_so_and_the_command_is_told_whole(straight, tmp_path):
    run = tmp_path / "here"
    shutil.copytree(straight("vae"), run, ignore=shutil.ignore_patterns("report"))
    card = (run / "model" / "README.md").read_text()
    said = train(["evaluate", os.path.relpath(run, ROOT) + "/.", "--split", "train", "--examples", "1"])
    assert re.search(r"here \(vae\) on \d+ training chunks", said)
    page = (run / "report" / "index.html").read_text()
    assert "<h1>here</h1>" in page
    assert "The model was trained on these chunks" in page
    assert "held-out chunks" not in page.partition('id="training"')[0]
    assert "--split train --examples 1" in page
    assert (run / "model" / "README.md").read_text() == card


def test_another_folder_leaves_the_run_as_it_is(straight, data_dir, tmp_path):
    run, out = tmp_path / "run", tmp_path / "other"
    shutil.copytree(straight("vae"), run, ignore=shutil.ignore_patterns("report"))
    before = {file: file.read_bytes() for file in run.rglob("*") if file.is_file()}
    train(["evaluate", str(run), "--out", str(out), "--examples", "1", "--no-yardsticks"])
    assert [row["kind"] for row in json.loads((out / "metrics.json").read_text())["passages"]["rows"]] == ["model"]
    assert "--examples 1 --no-yardsticks" in (out / "index.html").read_text()
    assert {file: file.read_bytes() for file in run.rglob("*") if file.is_file()} == before
    assert {"index.html", "metrics.json", "metrics.csv", "passages.csv", "audio"} == {
        file.name for file in out.iterdir()
    }
    said = train(["evaluate", str(run), "--out", str(out), "--split", "train", "--examples", "1"])
    assert f"{out}: replacing the report on split 'valid' of {data_dir}; to keep both, pass --out DIR" in said
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis/chapter-1.txt").touch()
    said = train(["evaluate", str(run), "--out", str(tmp_path / "thesis")], code=1)
    assert "thesis: not a report and not empty" in said


def test_a_chosen_checkpoint_has_a_report_of_its_own(straight, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(straight("vae"), run)
    steps = sorted(checkpoint.step_of(path) for path in checkpoint.all_checkpoints(run / "checkpoints"))
    assert len(steps) > 1
    before = {file: file.read_bytes() for file in run.rglob("*") if file.is_file()}
    words = ["evaluate", str(run), "--examples", "1", "--no-yardsticks"]
    train([*words, "--checkpoint", str(steps[0])])
    own = run / f"report-step-{steps[0]:08d}"
    found = json.loads((own / "metrics.json").read_text())
    assert found["model"] == f"step-{steps[0]:08d}"
    assert f"--checkpoint step-{steps[0]:08d} --split valid" in (own / "index.html").read_text()
    assert {file: file.read_bytes() for file in before} == before
    best = checkpoint.best_checkpoint(run / "checkpoints")
    train([*words, "--checkpoint", "best", "--out", str(tmp_path / "best")])
    assert json.loads((tmp_path / "best/metrics.json").read_text())["model"] == best.name

    def error(name: str) -> str:
        said = train([*words, "--checkpoint", name, "--out", str(tmp_path / "none")], code=1)
        (line,) = [line for line in said.splitlines() if line.startswith("error: ")]
        return line

    (run / "checkpoints" / f"step-{steps[-1]:08d}" / "config.json").write_text("{}")
    for wrong in "7000", "null", "newest", "", "step-", "../model", "٣":
        assert f"there is no checkpoint {wrong!r}; choose best or one of the steps {steps[0]}, " in error(wrong)
    assert "config.json differs from what was saved; choose another checkpoint" in error(str(steps[-1]))
    assert not (tmp_path / "none").exists()


def test_a_reader_that_has_gone_ends_no_evaluation(straight, tmp_path):
    """The reader of stdout closes it early, as with `| head -1`."""
    run = tmp_path / "run"
    shutil.copytree(straight("vae"), run, ignore=shutil.ignore_patterns("report"))
    process = start(["evaluate", str(run), "--examples", "1"])
    process.stdout.close()
    _, err = process.communicate(timeout=400)
    assert process.returncode == 0, err
    assert (run / "report/metrics.json").exists()


def test_a_full_disk_is_one_line_and_leaves_no_part_of_a_file(straight, tmp_path, capsys, monkeypatch):
    run = tmp_path / "run"
    shutil.copytree(straight("vae"), run, ignore=shutil.ignore_patterns("report"))
    room = [60_000]
    real = os.fsync

    def fsync(handle):  # the file is written, but the disk is full
        room[0] -= os.fstat(handle).st_size
        if room[0] < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    assert main_run(["evaluate", str(run), "--examples", "1"]) == 1
    # On a busy machine there is progress to tell of.
    said = [line for line in capsys.readouterr().err.splitlines() if line and not line.endswith(" left")]
    assert len(said) == 1
    assert "No space left on device" in said[0]
    assert str(run / "report") in said[0]
    assert not list((run / "report").rglob("*.tmp"))
    assert not (run / "report/metrics.json").exists()
    for file in (run / "report").rglob("*.wav"):
        assert soundfile.info(file).frames > 0


def test_a_report_that_cannot_be_written_is_said_before_the_work(straight, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(straight("vae"), run, ignore=shutil.ignore_patterns("report"))
    (run / "report").touch()
    said = train(["evaluate", str(run)], code=1)
    assert said.count("\n") == 1, said
    assert f"{run}/report: it is a file, not a real folder; remove it" in said


def test_measures_that_model_hearing_are_in_all_that_is_written(straight, tmp_path, monkeypatch, capsys):
    run, report = tmp_path / "run", tmp_path / "run/report"
    shutil.copytree(straight("vae"), run, ignore=shutil.ignore_patterns("report"))
    words = ["evaluate", str(run), "--examples", "1", "--no-yardsticks", "--perceptual"]
    with monkeypatch.context() as missing:
        missing.setattr(perceptual.importlib.util, "find_spec", lambda name: None)
        assert main_run(words) == 1
    said = capsys.readouterr().err
    assert said == (
        "error: --perceptual: zimtohrli and visqol-python not installed; run: pip install zimtohrli visqol-python\n"
    )
    assert not report.exists()
    # ViSQOL has no wheel of all it needs, so it may not be installed here.
    monkeypatch.setattr("train.evaluation.evaluate.require_perceptual_packages", lambda: None)
    monkeypatch.setattr(perceptual, "visqol", lambda reference, output: 4.125)
    assert main_run(words) == 0
    said = capsys.readouterr().out
    summary = json.loads((report / "metrics.json").read_text())
    (row,) = summary["passages"]["rows"]
    assert 1 <= row["zimtohrli"] <= 5
    assert row["visqol"] == 4.125
    assert summary["recordings"][0]["zimtohrli"] == row["zimtohrli"]
    assert f"{row['zimtohrli']:.3g}" in said
    assert "zimtohrli,visqol" in (report / "passages.csv").read_text()
    page = (report / "index.html").read_text()
    assert page.count("Zimtohrli, MOS") == 3, "a key figure, the table of codes, and that of recordings"
    assert "--no-yardsticks" in page
    assert "--perceptual" in page
    card = (run / "model" / "README.md").read_text()
    assert f"| Zimtohrli MOS, 1 to 5 (passages) | {row['zimtohrli']:.4g} |" in card
    assert table_row(read_report(run, "run"))["visqol"] == 4.125


def test_nothing_but_silence_is_one_line_and_names_stand_as_they_are(straight, data_dir, tmp_path):
    tunes, data = tmp_path / "tunes", tmp_path / "data"
    tunes.mkdir()
    for seed in range(2):
        soundfile.write(tunes / f"tune-{seed}.wav", 5e-4 * tune(0.5, seed), RATE, subtype="FLOAT")
    build(tunes, data, samples=SAMPLES, hop=SAMPLES, valid=0.5, workers=1, level="none")
    run = tmp_path / "lr [lr=1]"
    shutil.copytree(straight("vae"), run, ignore=shutil.ignore_patterns("report"))
    said = train(["evaluate", str(run), "--data", str(data)], code=1)
    assert said.count("\n") == 1, said
    assert "all 5 chunks of the split 'valid' are silent (never above -60 dBFS): nothing to measure" in said
    assert not (run / "report").exists()
    assert "lr [lr=1] (vae) on" in train(["evaluate", str(run), "--examples", "1"])


@pytest.mark.parametrize("value", [float("nan"), 1e12])
def test_a_model_that_exploded_is_one_line(value, straight, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(straight("vae"), run, ignore=shutil.ignore_patterns("report"))
    weights = load_file(run / "model" / "model.safetensors")
    last = [name for name in weights if name.startswith("decoder.")][-1]
    weights[last] = torch.full_like(weights[last], value)
    save_file(weights, run / "model" / "model.safetensors")
    seal(run / "model")
    (run / "report").mkdir()
    (run / "report" / "metrics.json").write_text("earlier")
    said = train(["evaluate", str(run)], code=1)
    assert "the reconstruction of chunk " in said
    assert "train again with a lower --optim.lr" in said
    assert f"{run}/report holds an earlier evaluation" in said
    assert "Traceback" not in said
    assert [file.name for file in (run / "report").iterdir()] == ["metrics.json"]
