"""The league: trunks of other libraries in our VAE, the choice of rates, and the whole command on a few steps."""

import argparse
import json
import math
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
import yaml
from safetensors import safe_open

import audiovae
from benchmarks.league import command, plan
from benchmarks.league.table import league_table, rows_of
from benchmarks.trials.options import finish
from benchmarks.trials.trial import Result, TrialError
from benchmarks.trials.trial import command as words_of
from benchmarks.variants import trunks
from shards.building.build import build
from train.cli.parser import parse

CONFIGS = Path(__file__).parents[2] / "train" / "configs"
PRESET, DEFAULT = (yaml.safe_load((CONFIGS / f"{name}.yaml").read_text())["model"] for name in ("vae_tiny", "vae"))
SAMPLES = 22050
TINY = plan.SIZES["tiny"]


def result(mel: float, name: str = "", **more: float) -> Result:
    row = {"si_sdr": 10.0, "mel": mel, "stft": 1.0, "level_error_high": 2.0, "kbit_per_second": 16.0}
    rows = [{"kind": "model", **row}, {"kind": "file", **row, **more}]
    rows += [{"kind": "opus", "name": "Opus 12", **row}, {"kind": "linear", "name": "linear optimum", **row}]
    summary = {"reconstruction": {"mel": mel}, "passages": {"rows": rows}}
    return Result({}, 200, 60.0, 1_500_000, summary, [], Path(name))


def test_the_rate_with_the_smaller_mel_distance_gets_the_other_seeds():
    first, second = TINY.rates
    done = {f"dac-{first}-0": result(0.9), f"dac-{second}-0": result(0.5), f"ours-{first}-0": result(0.3)}
    assert plan.better_rate(TINY, done, "dac") == second
    assert plan.better_rate(TINY, done, "seanet") is None
    more = plan.further_seeds(TINY, done, ["ours", "dac", "seanet"], 3, 60.0, perceptual=False)
    assert [trial.name for trial in more] == [
        f"ours-{first}-1",
        f"ours-{first}-2",
        f"dac-{second}-1",
        f"dac-{second}-2",
    ]
    assert len({trial.pace_key for trial in more}) == 2
    assert [trial.alteration for trial in more] == ["", "", "trunk-dac", "trunk-dac"]


def test_a_row_has_the_files_of_its_seeds_and_other_codes_come_last():
    first, second = TINY.rates
    done = {f"ours-{first}-0": result(0.3), f"ours-{first}-1": result(0.5, kbit_per_second=18.0)}
    done[f"ours-{second}-0"] = result(0.7)
    rows = rows_of(TINY, done, ["ours", "dac"], 2)
    assert [row["name"] for row in rows] == [plan.TRUNKS["ours"], "Opus 12", "linear optimum"]
    assert rows[0]["mel"] == pytest.approx(0.4)
    assert rows[0]["mel_range"] == [0.3, 0.5]
    assert rows[0]["kbit_per_second"] == 17.0
    assert rows[0]["rate"] == first
    text = league_table(rows)
    assert len(text.splitlines()) == 2 + len(rows)
    assert "Zimtohrli" not in text
    assert "| 17 | 10 | 0.4 |" in text


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["vocos"], "'vocos' is not one of: ours, random, dac"),
        (["--seconds", "0"], "--seconds must be above 0"),
        (["--seconds", "nan"], "--seconds must be above 0"),
        (["--seeds", "0"], "--seeds and --jobs at least 1"),
        (["--jobs", "0"], "--seeds and --jobs at least 1"),
    ],
)
def test_wrong_words(words, said, capsys):
    with pytest.raises(SystemExit) as ended:
        command.main(words)
    assert ended.value.code == 2
    assert said in capsys.readouterr().err


def test_a_missing_package_is_named(monkeypatch, capsys):
    monkeypatch.setattr(command, "find_spec", lambda name: None)
    assert command.main(["dac", "oobleck", "ours"]) == 1
    assert capsys.readouterr().err == (
        "error: diffusers and transformers not installed; run: pip install diffusers transformers\n"
    )


def test_other_chunks_than_the_trunks_take_are_an_error(tmp_path, capsys):
    (tmp_path / "audio").mkdir()
    for name in "ab":
        noise = np.random.default_rng(ord(name)).standard_normal(9000)
        soundfile.write(tmp_path / "audio" / f"{name}.wav", 0.1 * noise, 22050)
    build(tmp_path / "audio", tmp_path / "set", samples=2100, hop=2100, valid=0.5, workers=1)
    assert command.main(["ours", "--data", str(tmp_path / "set")]) == 1
    assert "1 x 2,100 samples a chunk at 22,050 Hz" in capsys.readouterr().err


def test_the_table_comes_before_a_file_that_cannot_be_written(tmp_path, capsys):
    args = argparse.Namespace(json=tmp_path / "none" / "found.json", quick=True, seconds=1.0)
    assert finish(args, {}, [], "the table", []) == 1
    shown = capsys.readouterr()
    assert "the table" in shown.out
    assert shown.err == f"error: --json {args.json}: No such file or directory\n"


def test_a_report_without_files_is_an_error():
    found = result(0.5)
    found.summary["passages"]["rows"] = [{"kind": "model"}]
    with pytest.raises(TrialError, match="the report has no measures of files"):
        plan.better_rate(TINY, {f"dac-{TINY.rates[0]}-0": found}, "dac")


def test_without_ours_the_other_codes_come_from_another_trunk():
    rate = TINY.rates[0]
    rows = rows_of(TINY, {f"dac-{rate}-0": result(0.9)}, ["dac"], 1)
    assert [row["name"] for row in rows] == [plan.TRUNKS["dac"], "Opus 12", "linear optimum"]


@pytest.mark.slow(area="league")
@pytest.mark.parametrize("kind", trunks.TRUNKS)
def test_a_trunk_has_the_latents_and_about_the_size_of_ours(kind):
    torch.manual_seed(0)
    model = trunks.with_trunk(audiovae.build("vae", PRESET, SAMPLES, 22050), kind)
    for tower in (model.encoder.tower, model.decoder[1]):
        size = sum(parameter.numel() for parameter in tower.parameters())
        assert math.isclose(size, trunks.TINY.parameters, rel_tol=0.12), size
    audio = 0.1 * torch.randn(2, 1, SAMPLES)
    model.calibrate([audio])
    output = model(model.represent(audio))
    assert output.recon.shape == audio.shape
    (output.recon.square().mean() + output.losses["kl"].mean()).backward()
    for name, parameter in model.named_parameters():
        assert name.startswith("level_latents") or parameter.grad is not None, name
    model.eval()
    assert model.encode(audio).shape == (2, *model.latent_shapes[0])


@pytest.mark.slow(area="league")
@pytest.mark.parametrize("kind", trunks.TRUNKS)
def test_a_trunk_of_the_default_size_has_about_as_many_parameters(kind):
    with torch.device("meta"):
        model = audiovae.build("vae", DEFAULT, SAMPLES, 22050)
    own = sum(parameter.numel() for parameter in model.decoder[1].parameters())
    assert own == pytest.approx(trunks.DEFAULT.parameters, rel=0.001)
    trunks.with_trunk(model, kind)
    for tower in (model.encoder.tower, model.decoder[1]):
        size = sum(parameter.numel() for parameter in tower.parameters())
        assert math.isclose(size, own, rel_tol=0.12), size


def test_the_default_size_is_trained_with_the_default_preset():
    (trial, *_) = plan.first_round(plan.SIZES["default"], ["ours"], 120.0, perceptual=False)
    words = words_of(trial, Path("data"), Path("run"), 400)
    assert words[:2] == ["train", "vae"]
    _, settings = parse(words[1:])
    assert settings.model == parse(["vae", "--data", "data", "--run-dir", "run"])[1].model
    assert settings.optim.lr == 0.001
    assert settings.kl_warmup.steps == 100


@pytest.mark.slow(area="league")
def test_the_whole_league_on_a_few_steps(tmp_path, noise_shards, monkeypatch, capsys):
    """Two trunks, with files of whole recordings, a table and JSON; a second call trains nothing."""
    monkeypatch.setattr("benchmarks.trials.trial.QUICK_STEPS", 3)
    words = ["ours", "banded", "--quick", "--data", str(noise_shards), "--folder", str(tmp_path / "folder")]
    assert command.main([*words, "--json", str(tmp_path / "league.json")]) == 0
    table = capsys.readouterr().out
    assert "| filter bank and SEANet (as RAVE) |" in table
    assert "| Opus 12 |" in table
    found = json.loads((tmp_path / "league.json").read_text())
    assert [row["name"] for row in found["rows"][:2]] == [plan.TRUNKS["ours"], plan.TRUNKS["banded"]]
    assert all(row["steps"] == 3 for row in found["rows"][:2])
    for trunk, prefix in (("ours", "tower.stages."), ("banded", "tower.tower.")):
        folder = tmp_path / "folder" / "trials" / f"{trunk}-{TINY.rates[0]}-0" / "model"
        with safe_open(folder / "encoder.safetensors", "pt") as file:
            names = [*file.keys()]
        assert any(name.startswith(prefix) for name in names), (trunk, names[:5])
    monkeypatch.setattr("benchmarks.trials.trial._run", lambda *_: 1 / 0)
    assert command.main(words) == 0
