"""Names and values in a stranger's run folder or settings file: no command hands them to the terminal as they are."""

import csv
import io
import json
from types import SimpleNamespace

import numpy as np
import pytest

from shards.text import printable
from tests.hostile_text import harmless
from train.__main__ import run as main_run
from train.cli import which_samples
from train.config import DataConfig, TrackingConfig, VAERun, settings_of
from train.errors import TrainError
from train.evaluation.evaluate import warn_of_earlier_report
from train.evaluation.measuring.chunks import Measured
from train.evaluation.measuring.tables import csv_text
from train.evaluation.report.facts import training_commands
from train.evaluation.report.measures import MEASURES
from train.evaluation.report.terminal import print_table
from train.process.console import Display
from train.process.live_view import RunInfo
from train.runs import requeue
from train.runs.checkpoint import newest_intact
from train.runs.record import Record
from train.runs.run_folder import RunDir
from train.runs.settings_history import DATA, Change

OWNED = "\x1b]0;owned\x07\x1b[31m[red]no[link=x]\u202e\u2028:smile:"
CONFIG = {"data.batch": 6, "checkpoint.every": 4, "optim.steps": 8, "tracking.evaluate_chunks": 1}
CONFIG |= {"data.path": "d", "run_dir": "r"}
START = {"event": "started", "attempt": 1, "time": 1.0, "world": 1, "step": 0}


@pytest.fixture(autouse=True)
def wide(monkeypatch):
    monkeypatch.setenv("COLUMNS", "2000")


def write_lines(file, *rows) -> None:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture
def run(tmp_path):
    """A run folder in which every text is hostile that may be any text."""
    run = tmp_path / "run"
    (run / "checkpoints" / "step-00000004").mkdir(parents=True)
    (run / "checkpoints" / f"damaged-{OWNED}").mkdir()
    changes = [Change(1, 0, {OWNED: (OWNED, f"{OWNED}\nerror: forged")})]
    (run / "run.json").write_bytes(Record("id", "vae", CONFIG, OWNED, changes).to_bytes())
    end = {"event": "failed", "attempt": 1, "time": 2.0, "step": 4, "reason": f"reason {OWNED}"}
    write_lines(run / "attempts.jsonl", START | {"job": OWNED}, end)
    write_lines(run / "jobs.jsonl", {"job": OWNED, "again": False, "why": f"why {OWNED}\nforged"})
    return run


def test_a_run_whose_id_or_family_is_no_name(run, capsys):
    for record in (Record(OWNED, "vae", CONFIG, "f"), Record("id", OWNED, CONFIG, "f")):
        (run / "run.json").write_bytes(record.to_bytes())
        assert main_run(["status", str(run)]) == 1
        assert "run_id or family is not a plain name" in harmless(capsys.readouterr().err)


def test_status(run, capsys):
    assert main_run(["status", str(run)]) == 0
    said = harmless(capsys.readouterr().out)
    shown = printable(OWNED)
    assert f"{run}: vae, failed, step 4 of 8" in said
    assert f"settings changed from step 1 on (attempt 1): {shown} {shown} -> {shown}\\nerror: forged\n" in said
    assert f"error: reason {shown} " in said
    assert f"job {shown} ended: why {shown}\\nforged\n" in said
    assert f"damaged checkpoints: damaged-{shown}\n" in said
    assert said.count(shown) == 8, "the job of the attempt as well"


def test_status_as_json(run, capsys):
    assert main_run(["status", str(run), "--json"]) == 0
    said = json.loads(harmless(capsys.readouterr().out))
    assert said["family"] == "vae"
    assert said["checkpoints"]["damaged"] == [f"damaged-{OWNED}"]


@pytest.mark.parametrize("name", ["attempts.jsonl", "STOPPED", "error file", "DONE"])
def test_the_decision_to_requeue(name, run, tmp_path, capsys):
    words, error = [str(run), "--code", "1"], tmp_path / "error"
    if name == "attempts.jsonl":
        write_lines(run / name, START, {"event": "failed", "attempt": 1, "step": 4, "reason": OWNED + "\nforged"})
    elif name == "error file":
        error.write_text(OWNED)
        words += ["--error-file", str(error), "--attempts-before", "1"]
    else:
        (run / name).write_text(OWNED)
    assert requeue.main(words) in (requeue.REQUEUE, requeue.END)
    said = harmless(capsys.readouterr().out)
    assert said.count("\n") == 1
    assert printable(OWNED) in said
    assert json.loads((run / "jobs.jsonl").read_text().splitlines()[-1])["why"] == said.strip()


def test_errors_about_a_run(run, capsys):
    """Of another family, with other settings, without checkpoints, never logged."""
    config = VAERun(DataConfig("d"), run, tracking=TrackingConfig(wandb="disabled"))
    with pytest.raises(TrainError) as caught:
        RunDir.create_or_resume(config, "vae", "f")
    harmless(str(caught.value))
    record = Record("id", "vae", {**CONFIG, "optim.lr": f"{OWNED}\nerror: forged"}, OWNED)
    (run / "run.json").write_bytes(record.to_bytes())
    opened = RunDir(run, record, 1)
    with pytest.raises(TrainError) as caught:
        opened._check_same(config, Record("id", "vae", {**CONFIG, "optim.lr": 1}, "f"))
    first, *rest = harmless(str(caught.value)).split("\n")
    assert first.endswith(":")
    assert f"  optim.lr: {printable(OWNED)}\\nerror: forged -> 1" in rest
    assert all(line.startswith("  ") for line in rest)


@pytest.mark.parametrize(
    "content",
    [
        {"optim": {"lr": f"{OWNED}\nerror: forged"}},
        {"optim": {OWNED: 1}},
        {OWNED: 1},
        {"tracking": {"wandb": OWNED}},
        {"optim": OWNED},
    ],
    ids=["value", "inner key", "key", "choice", "group"],
)
def test_values_in_a_settings_file(content, tmp_path, monkeypatch, capsys):
    file, refusal = tmp_path / "settings.yaml", tmp_path / "refusal"
    monkeypatch.setenv("AUDIO_TRAIN_REFUSAL", str(refusal))
    file.write_text(json.dumps(content))  # escaped, as YAML reads too
    assert main_run(["vae", "--data", "d", "--run-dir", str(tmp_path / "run"), "--config", str(file)]) == 1
    said = harmless(capsys.readouterr().err)
    assert said.startswith("error: ")
    assert "\nerror: " not in said
    harmless(refusal.read_text())


def test_names_of_files_that_an_error_names(tmp_path, capsys):
    assert main_run(["status", str(tmp_path / OWNED)]) == 1
    assert printable(OWNED) in harmless(capsys.readouterr().err)


def test_which_samples(capsys):
    row = {"row": 0, "chunk": 1, "name": OWNED, "recording": OWNED, "start_s": 0.0}
    which_samples.show(1, SimpleNamespace(cursor=SimpleNamespace(epoch=0, consumed=0)), [row], 0, False)
    assert harmless(capsys.readouterr().out).count(printable(OWNED)) == 2


def test_tables_of_measures(capsys):
    print_table(OWNED, "run", {OWNED: dict.fromkeys((measure.key for measure in MEASURES), 1.0)})
    assert harmless(capsys.readouterr().out).count(printable(OWNED)) == 2


def test_an_earlier_report(tmp_path, capsys):
    (tmp_path / "metrics.json").write_text(json.dumps({"split_fingerprint": "x", "split": OWNED, "data": OWNED}))
    warn_of_earlier_report(tmp_path, SimpleNamespace(fingerprint="f"))
    assert harmless(capsys.readouterr().err).count(printable(OWNED)) == 2


def test_a_damaged_checkpoint(run, capsys):
    files = {OWNED: {"bytes": 0, "sha256": ""}}
    (run / "checkpoints" / "step-00000004" / "manifest.json").write_text(json.dumps({"files": files}))
    with pytest.raises(TrainError):
        newest_intact(run / "checkpoints")
    said = harmless(capsys.readouterr().err)
    assert said.startswith("warning: ")
    assert printable(OWNED) in said


def test_uploading_to_wandb(run, capsys):
    (run / "metrics.jsonl").touch()
    assert main_run(["sync", str(run), "--prepare"]) == 0
    assert "of run id, 0 points" in harmless(capsys.readouterr().out)


def test_commands_to_copy_from_the_page():
    """The remark about other data stays a remark of one line."""
    config = settings_of(VAERun(DataConfig("d"), "r")) | {"optim.steps": 8}
    change = Change(2, 4, {DATA: ("first", "x\nrm -rf ~")})
    record = Record("id", "vae", config, "x\nrm -rf ~", [change])
    commands = training_commands(SimpleNamespace(record=record, changes=[change], family="vae"))
    assert any(line.endswith(r"fingerprint x\nrm -rf ~") for line in commands)
    assert not any("\n" in line for line in commands)


@pytest.mark.parametrize("say", ["say", "warn", "call"])
def test_messages_of_a_training(say, capfd):
    getattr(Display(RunInfo("title", 1, 1, 1.0, 1, 1), 0, shown=True), say)(f"saved {OWNED}")
    assert harmless(capfd.readouterr().err) == f"saved {printable(OWNED)}\n"


def test_cells_of_a_table():
    paths = ["=HYPERLINK(1)", "+1+1", "-2", "@SUM(1)", "\t=1", OWNED, "a,b.wav"]
    count = len(paths)
    names = ["si_sdr", "reference_dbfs", "output_dbfs"]
    columns = {name: np.full(count, -1.5) for name in (*names, "silent")} | {"silent": np.zeros(count)}
    split = SimpleNamespace(
        names=lambda indices: [f"chunk {i}" for i in indices],
        rate=10,
        manifest=SimpleNamespace(sources=[SimpleNamespace(path=path) for path in paths]),
    )
    everything = {name: np.full(count, -1.5) for name in ("stft", "mel", "mse", "cosine")} | columns
    text = csv_text(Measured(np.arange(count), np.arange(count), np.zeros(count), everything), split)
    rows = [*csv.DictReader(io.StringIO(harmless(text)))]
    safe = ["'=HYPERLINK(1)", "'+1+1", "-2", "'@SUM(1)", r"\t=1", printable(OWNED), "a,b.wav"]
    assert [row["recording"] for row in rows] == safe
    assert {row["si_sdr"] for row in rows} == {"-1.5"}
