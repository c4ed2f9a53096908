"""The ablations: which models are trained, and the whole command on a few steps."""

import json

import pytest

from benchmarks.ablations import command, plan
from benchmarks.variants.__main__ import ALTERATIONS


def test_every_change_has_every_seed_and_its_own_pace():
    trials = plan.trials(plan.CHANGES, 2, 60.0, perceptual=False)
    assert len(trials) == 2 * len(plan.CHANGES)
    assert len({trial.name for trial in trials}) == len(trials)
    assert len({trial.pace_key for trial in trials}) == len(plan.CHANGES)
    assert [trial.seed for trial in trials[: len(plan.CHANGES)]] == [0] * len(plan.CHANGES)
    for trial in trials:
        assert trial.alteration in ({""} if command.is_of(trial.name, plan.PRESET) else ALTERATIONS)


def test_an_unknown_change_is_named(capsys):
    with pytest.raises(SystemExit) as ended:
        command.main(["vocos"])
    assert ended.value.code == 2
    assert "'vocos' is not one of: preset, windows" in capsys.readouterr().err


@pytest.mark.slow(area="league")
def test_the_whole_command_on_a_few_steps(tmp_path, noise_shards, monkeypatch, capsys):
    """The preset and two changes, with a table and JSON; a second call trains nothing."""
    monkeypatch.setattr("benchmarks.trials.trial.QUICK_STEPS", 3)
    words = ["preset", "mel", "attention", "--quick", "--data", str(noise_shards)]
    words += ["--folder", str(tmp_path / "folder")]
    assert command.main([*words, "--json", str(tmp_path / "found.json")]) == 0
    table = capsys.readouterr().out
    assert "| multi-scale mel beside the STFT |" in table
    assert "| Opus 12 |" in table
    rows = json.loads((tmp_path / "found.json").read_text())["rows"]
    assert [row["name"] for row in rows[:3]] == [plan.CHANGES[name] for name in ("preset", "mel", "attention")]
    assert all(row["steps"] == 3 for row in rows[:3])
    assert rows[0]["M"] < rows[2]["M"]
    monkeypatch.setattr("benchmarks.trials.trial._run", lambda *_: 1 / 0)
    assert command.main(words) == 0
