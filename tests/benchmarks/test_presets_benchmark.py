"""Default presets beside the tiny ones: which models are trained, and the whole command on a few steps."""

import json

import pytest

from benchmarks.presets import command
from benchmarks.trials.trial import TrialError


def test_every_preset_takes_the_same_chunks():
    trials = command.trials(command.PRESETS, 2, 200, 4)
    assert len({trial.name for trial in trials}) == len(trials) == 12
    for family in command.PRESETS:
        own = [trial for trial in trials if trial.family == family]
        assert {trial.preset for trial in own} == {family, f"{family}_tiny"}
        assert len({(trial.steps, trial.flags) for trial in own}) == 1


def test_wrong_words_are_named(capsys):
    for words, problem in ((["wave"], "'wave' is not one of: vae"), (["--steps", "0"], "must be at least 1")):
        with pytest.raises(SystemExit) as ended:
            command.main(words)
        assert ended.value.code == 2
        assert problem in capsys.readouterr().err


@pytest.mark.slow(area="league")
def test_the_whole_command_on_a_few_steps(tmp_path, noise_shards, monkeypatch, capsys):
    """Two models, with a table and JSON; a second call trains nothing."""
    words = ["vqvae", "--steps", "4", "--batch", "2", "--seeds", "1", "--data", str(noise_shards)]
    words += ["--folder", str(tmp_path / "folder")]
    assert command.main([*words, "--json", str(tmp_path / "found.json")]) == 0
    table = capsys.readouterr().out
    rows = json.loads((tmp_path / "found.json").read_text())["rows"]
    assert [row["name"] for row in rows] == ["vqvae", "vqvae_tiny", "Opus 8", "Opus 12", "Opus 16", "Opus 24"]
    assert all(row["steps"] == 4 and row["mel"] > 0 for row in rows[:2])
    assert rows[0]["M"] > 5 * rows[1]["M"]
    assert f"| vqvae_tiny | {rows[1]['M']:.3g} | 1 | 4 |" in table

    def train_no_more(words: list[str], *_: object) -> str:
        raise TrialError(f"{words}")

    monkeypatch.setattr("benchmarks.trials.trial._run", train_no_more)
    assert command.main(words) == 0
