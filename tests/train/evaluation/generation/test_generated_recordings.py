"""The evaluation of priors, on real tiny runs."""

import csv
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from shards import Split
from shards.building.build import build
from tests.train.conftest import RATE, SAMPLES, train
from tests.train.evaluation.test_evaluate import compare
from train.__main__ import run as main_run
from train.evaluation.generation import command
from train.evaluation.generation.references import groups_of, passages_of
from train.evaluation.generation.sounds import Shape
from train.evaluation.measuring.recordings import join_chunks
from train.evaluation.report.sounds import OURS


@pytest.fixture
def prior(straight_prior, tmp_path):
    """prior(family) -> a copy of a run of a prior."""

    def copy(family: str) -> Path:
        shutil.copytree(straight_prior(family), tmp_path / "run")
        return tmp_path / "run"

    return copy


@pytest.fixture(scope="session")
def others(once) -> Path:
    """Shards of four recordings that no other test has: no two seconds of them are equal. One is held out."""

    def make(folder: Path) -> None:
        (folder / "tunes").mkdir()
        t = np.arange(3 * RATE) / RATE
        for seed in range(4):
            rise = 100 + 900 * seed + 200 * t
            audio = 0.3 * np.sin(2 * np.pi * rise * t) + 0.01 * np.random.default_rng(seed).normal(size=len(t))
            soundfile.write(folder / "tunes" / f"tune-{seed}.wav", audio, RATE)
        build(folder / "tunes", folder / "set", samples=SAMPLES, hop=SAMPLES, valid=0.25, workers=1)

    return once("other-data", make) / "set"


def words_for(run: Path, data: Path, autoencoder: Path, *more: str) -> list[str]:
    """Arguments of a small evaluation."""
    small = ["--seconds", "0.5", "--autoencoder", str(autoencoder)]
    return ["evaluate", str(run), "--data", str(data), *small, *more]


def test_a_report_on_generated_recordings(prior, straight, data_dir, capsys):
    run = prior("vae")
    assert main_run(words_for(run, data_dir, straight("vae"), "--pieces", "5")) == 0
    said, report = capsys.readouterr().out, run / "report"
    summary = json.loads((report / "metrics.json").read_text())
    assert (summary["family"], summary["format"], summary["encoded"]) == ("prior", 1, True)
    assert (summary["pieces"], summary["seconds"], summary["training_chunks"]) == (5, 0.5, 90)
    assert summary["interval_over"]["held_out"] == "passages", "there is one held-out recording"
    rows = summary["rows"]
    assert list(rows) == ["generated", "autoencoder_prior", "reconstructions", "held_out"]
    for row in rows.values():
        assert [lag["seconds"] for lag in row["coherence"]] == [], "half a second has no lag of a second"
        assert row["silent_windows"] == 0
    assert [row["windows"] for row in rows.values()] == [25, 25, 25, 25]
    assert summary["kernel_floor"]["groups"] == 2
    for name in ("generated", "autoencoder_prior", "reconstructions"):
        low, high = rows[name]["intervals"]["kernel_distance"]
        assert low < rows[name]["kernel_distance"] < high
    # A model that was hardly trained.
    assert rows["generated"]["kernel_distance"] > summary["kernel_floor"]["high"]
    with open(report / "metrics.csv") as file:
        windows = list(csv.DictReader(file))
    assert [row["piece"] for row in windows[::5]] == ["1", "2", "3", "4", "5"]
    names = set(Split.open(data_dir, "train").names(range(90)))
    assert {row["nearest_chunk"] for row in windows} <= names
    page = (report / "index.html").read_text()
    files = {file.stem for file in (report / "audio").glob("*.wav")}
    assert {f"generated-{i}" for i in range(1, 6)} | {"prior-3", "reconstructed-1-reference"} <= files
    assert all(OURS.fullmatch(f"{name}.wav") for name in files), "the next report removes them"
    audio, rate = soundfile.read(report / "audio" / "generated-1.wav")
    assert (len(audio), rate) == (round(0.5 * RATE), RATE)
    assert len(re.findall("<audio", page)) == len(files) == 5 + 3 + 2 * 3 + 2 * 3
    assert not re.search(r"(src|href)=\"(?!data:|#)", page), "the page loads nothing"
    assert "loss of the prior" in page
    assert rows["autoencoder_prior"]["frechet"] > rows["reconstructions"]["frechet"] > 0
    assert summary["frechet_floor"] > 0
    card = (run / "model" / "README.md").read_text()
    assert f"card:    {run / 'model' / 'README.md'}" in said
    assert "5 generated recordings of 0.5 s against `valid`, temperature 1.0" in card
    assert f"| kernel distance | {rows['generated']['kernel_distance']:.4g} |" in card
    for text in (said, page):
        assert "times as far as random parts of these are from each other" in " ".join(text.split())
    # A second report replaces the first, and lets go of what it has no more.
    assert main_run(words_for(run, data_dir, straight("vae"), "--pieces", "2", "--temperature", "0.5")) == 0
    assert not (report / "audio" / "generated-3.wav").exists()
    assert json.loads((report / "metrics.json").read_text())["rows"]["generated"]["intervals"]["diversity"] is None
    colder, _ = soundfile.read(report / "audio" / "generated-1.wav")
    assert np.abs(colder - audio).max() > 1e-3
    # A checkpoint has a report of its own, and the model card stays that of the finished model.
    before = {file: file.read_bytes() for file in run.rglob("*") if file.is_file()}
    words = words_for(run, data_dir, straight("vae"), "--pieces", "2", "--checkpoint", "best")
    assert "card: " in capsys.readouterr().out
    assert main_run(words) == 0
    assert "card: " not in capsys.readouterr().out
    assert {file: file.read_bytes() for file in before} == before
    (own,) = run.glob("report-step-*")
    assert json.loads((own / "metrics.json").read_text())["model"] == own.name.removeprefix("report-")
    assert f"--checkpoint {own.name.removeprefix('report-')}" in (own / "index.html").read_text()


def test_one_and_two_processes_agree(straight_prior, straight, data_dir, tmp_path):
    found = []
    for processes in (1, 2):
        out = tmp_path / str(processes)
        more = ("--pieces", "6", "--out", str(out))
        train(words_for(straight_prior("vqvae"), data_dir, straight("vqvae"), *more), processes=processes)
        summary = json.loads((out / "metrics.json").read_text())
        assert summary.pop("checksum")
        assert summary.pop("chunks_sha256")
        found.append((summary, {file.name: soundfile.read(file)[0] for file in (out / "audio").iterdir()}))
    compare(found[0][0], found[1][0])
    assert found[0][1].keys() == found[1][1].keys()
    for name, audio in found[0][1].items():
        np.testing.assert_allclose(audio, found[1][1][name], atol=2e-4, err_msg=name)
    assert not (straight_prior("vqvae") / "report").exists()


def played(sounds: list[np.ndarray]):
    """A stand-in for a prior that plays these sounds."""

    def generate(prior, autoencoder, items, seconds, temperature, **labels):
        return [torch.from_numpy(sounds[i][: round(seconds * RATE)]).float() for i in items]

    return generate


def test_copies_recordings_and_noise_are_told_apart(straight_prior, straight, others, tmp_path, monkeypatch, capsys):
    split = Split.open(others, "train")
    sources = np.unique(split.keys()[0])
    copied = [join_chunks(split, sources[i % 3], SAMPLES * (i + 2)) for i in range(8)]
    rng = np.random.default_rng(0)
    noise = [0.1 * rng.normal(size=RATE) for _ in range(8)]
    found = {}
    for name, sounds in {"copied": copied, "noise": noise, "silence": [np.zeros(RATE)] * 8}.items():
        monkeypatch.setattr(command, "generate_recordings", played(sounds))
        out = tmp_path / name
        assert main_run(words_for(straight_prior("vae"), others, straight("vae"), "--out", str(out))) == 0
        said = " ".join(capsys.readouterr().out.split())
        found[name] = json.loads((out / "metrics.json").read_text())["rows"]["generated"], said
    row, said = found["copied"]
    assert row["near_share"] == 1
    assert row["nearest_ratio"] < 1e-3
    assert "some may be copies: 100 % of their windows are nearer" in said
    pair = [soundfile.read(tmp_path / "copied/audio" / f"nearest-1-{word}.wav")[0] for word in PAIR]
    np.testing.assert_array_equal(*pair)
    assert json.loads((out / "metrics.json").read_text())["encoded"] is False
    assert "trained on latents of another data set" in (out / "index.html").read_text()
    row, said = found["noise"]
    assert row["near_share"] == 0
    assert row["kernel_distance"] > found["copied"][0]["kernel_distance"] + 0.2
    assert "no copies were found" in said
    assert "are alike: their mean distance is" in said
    row, said = found["silence"]
    assert (row["windows"], row["kernel_distance"], row["diversity"]) == (0, None, None)
    assert "The generated recordings are silent." in said


PAIR = ("generated", "nearest-in-training")


def test_an_output_that_exploded_is_one_line(straight_prior, straight, data_dir, tmp_path, monkeypatch, capsys):
    sounds = [np.zeros(RATE), np.full(RATE, np.nan)] * 4
    monkeypatch.setattr(command, "generate_recordings", played(sounds))
    out = tmp_path / "out"
    assert main_run(words_for(straight_prior("vae"), data_dir, straight("vae"), "--out", str(out))) == 1
    assert "number 2 of the generated recordings is not finite" in capsys.readouterr().err
    assert not out.exists()


def test_what_does_not_fit_is_one_line(straight_prior, straight, latents, data_dir, tmp_path, capsys):
    run, vae = str(straight_prior("vae")), straight("vae")

    def refused(words: list[str], *parts: str) -> None:
        assert main_run(["evaluate", *words]) == 1
        error = capsys.readouterr().err
        assert error.count("\n") == 1, error
        for part in parts:
            assert part in error

    data = ["--data", str(data_dir), "--autoencoder", str(vae)]
    refused([run], "its own data are latents", "pass --data DIR")
    refused([run, "--data", str(latents("vae"))], "holds latents", "the data set that was encoded")
    refused([run, *data, "--split", "train"], "the prior has learned from these")
    refused([run, *data, "--split", "test"], "no split 'test', only")
    refused([run, *data, "--seconds", "0.05"], "--seconds 0.05: shorter than a chunk of the data set (0.1 s)")
    refused([run, *data, "--seconds", "600", "--pieces", "7"], "more than 3600 s of audio")
    refused([run, *data, "--temperature", "0"], "temperature is 0")
    refused([run, *data, "--device", "abacus"], "--device abacus")
    refused([run, *data[:2], "--autoencoder", str(straight("hvae"))], "fingerprint")
    for flags in (["--examples", "2"], ["--speech"], ["--no-yardsticks"]):
        refused([run, *data, *flags], f"{flags[0]} is for runs of autoencoders", "family 'prior'")
    for flags in (["--pieces", "2"], ["--temperature", "0"], ["--autoencoder", "x"]):
        refused([str(vae), *flags], f"{flags[0]} is for runs of priors", "family 'vae'")
    assert main_run(["compare", run, str(vae)]) == 1
    assert "compare is for autoencoders" in capsys.readouterr().err


def test_recordings_that_the_prior_knows_are_refused(straight_prior, straight, data_dir, tmp_path, capsys):
    run, vae = straight_prior("vae"), straight("vae")
    build(data_dir.parent / "tunes", tmp_path / "set", samples=SAMPLES, hop=SAMPLES, valid=0.75, workers=1)
    assert main_run(words_for(run, tmp_path / "set", vae)) == 1
    said = capsys.readouterr().err
    assert re.search(r"the prior has learned from [23] of the 3 recordings of split 'valid', such as tune-\d.wav", said)


def test_passages_cover_recordings_from_chunk_to_chunk():
    shape = Shape(samples=100, rate=100, length=350)
    sources = np.array([0] * 21 + [1] * 3 + [4])
    starts = np.array([*range(1050, 0, -50), 0, 50, 100, 700])  # 1,100 samples, 200, and 100
    found = passages_of(sources, starts, shape)
    assert [(one.source, one.first) for one in found] == [(0, 50), (0, 350), (0, 650), (1, 0), (4, 700)]
    groups, over = groups_of(found)
    assert (groups.tolist(), over) == ([0, 1, 2, 3, 4], "passages")
    many = passages_of(np.repeat(np.arange(6), 2), np.tile([0, 70], 6), Shape(100, 100, 100))
    assert groups_of(many)[1] == "recordings"
    # Where chunks do not begin at a multiple of the length, a passage begins with the next chunk.
    uneven = passages_of(np.zeros(5, int), np.array([0, 70, 140, 210, 280]), Shape(100, 100, 100))
    assert [one.first for one in uneven] == [0, 140, 210]
    long = passages_of(np.zeros(100_000, int), np.arange(100_000) * 100, Shape(100, 100, 100))
    assert (len(long), long[1].first % 100) == (256, 0)
