"""Usage errors are one line that names the wrong word and the nearest valid one."""

import pytest

from tests.train.conftest import ROOT
from train.cli.parser import normalised, parse
from train.cli.presets import presets, settings_file
from train.config import flat
from train.errors import TrainError

NEEDED = ["--data", "x", "--run-dir", "y"]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["evalute", "x"], "no command 'evalute'; did you mean evaluate?"),
        (["zzz"], "no command 'zzz'; see: python -m train --help"),
        (["verify-resume", "gan"], "FAMILY: gan is none of vae, hvae, vqvae"),
        (["evaluate"], "missing: RUN_DIR; see: python -m train evaluate --help"),
        (["vae"], "missing: --data, --run-dir; see: python -m train vae --help"),
        (["which-samples", "r"], "missing: --step; see: python -m train which-samples --help"),
        (["evaluate", "x", "--examplse", "3"], "did you mean --examples?"),
        (["evaluate", "x", "--examples", "0"], "--examples: 0 is not a whole number from 1"),
        (["vae", *NEEDED, "--optim.lr", "fast"], "--optim.lr: fast is not a number above 0"),
        (["vae", *NEEDED, "--optim.lrr", "1"], "did you mean --optim.lr?"),
        (["vae", *NEEDED, "--tracking.wandb", "on"], "--tracking.wandb: on is none of auto, online, offline, disabled"),
        (["vae", *NEEDED, "--model.trunk.strides", "[1,a]"], "--model.trunk.strides: a is not a whole number"),
        (["vae", *NEEDED, "--steps", "3"], "did you mean --optim.steps?"),
        (["vae", *NEEDED, "--lr", "3"], "did you mean --optim.lr?"),
        (["vae", *NEEDED, "--nonsense", "3"], "unrecognized arguments: --nonsense 3; see: python -m train vae --help"),
        (["vae", *NEEDED, "--seed"], "--seed: the value is missing"),
        (["vae", *NEEDED, "--optim.betas", "[1]"], "--optim.betas: [1] is not a list of 2 values"),
        (["vae", *NEEDED, "--optim", "x"], "--optim: x is not a YAML file of settings"),
        (["vae", *NEEDED, "--config", "nowhere"], "--config nowhere: there is no such file; presets: "),
        (["vae", *NEEDED, "--config", "nowhere/vae_tiny.yaml"], "the preset: --config vae_tiny"),
    ],
)
def test_wrong_words(words, expected):
    with pytest.raises(TrainError) as caught:
        parse(words)
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("flag", ["--init", "--init-from", "--pretrained", "--checkpoint", "--resume"])
@pytest.mark.parametrize("joined", [True, False])
def test_flags_of_other_programs_get_a_sentence_on_what_is_possible(flag, joined):
    with pytest.raises(TrainError) as caught:
        parse(["hvae", *NEEDED, *([f"{flag}=runs/a"] if joined else [flag, "runs/a"])])
    message = str(caught.value)
    assert message.startswith("--checkpoint: runs/a is not a YAML file" if flag == "--checkpoint" else "no flag --")
    assert "Run the same command with the same --run-dir to resume a run." in message
    assert ("To start a new run from other weights" in message) == (flag != "--resume")


def test_weights_and_a_missing_family_get_that_sentence_too(tmp_path):
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(b"\xff")
    for words in (["vae", *NEEDED, "--checkpoint", str(weights)], ["--resume", "runs/a"], ["--init=x", "vae"]):
        with pytest.raises(TrainError, match="Run the same command with the same --run-dir to resume a run") as caught:
            parse(words)
        assert "\n" not in str(caught.value)


def test_a_list_of_data_sets_in_a_file_gets_the_text_that_is_meant(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("data: {path: [a/, b/]}")
    with pytest.raises(TrainError, match=r"is not text; write several data sets as one text: music/ \+ speech/:0\.3$"):
        parse(["vae", "--config", str(file), "--run-dir", "r"])


def test_a_wrong_key_in_a_file_is_named(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("optim: {lrr: 1}\n")
    with pytest.raises(TrainError, match=r"'optim\.lrr'; did you mean optim\.lr\?"):
        parse(["vae", *NEEDED, "--config", str(file)])


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"\xff\xfe\x00", "not text in UTF-8"),
        (b"optim:\n  lr: [1\n", "line 3: cannot be read as YAML"),
        (b"- 1\n", "holds no settings"),
        (b"", "holds no settings"),
    ],
)
def test_files_that_hold_no_settings(content, expected, tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_bytes(content)
    with pytest.raises(TrainError) as caught:
        parse(["vae", *NEEDED, "--config", str(file)])
    assert f"--config {file}" in str(caught.value)
    assert expected in str(caught.value)
    with pytest.raises(TrainError, match=r"cannot be read"):
        parse(["vae", *NEEDED, "--config", str(tmp_path)])


def test_flags_override_files_wherever_they_stand():
    file = str(ROOT / "train/configs/vae_tiny.yaml")
    before = parse(["vae", "--data.batch", "7", *NEEDED, "--config", file])[1]
    after = parse(["vae", *NEEDED, f"--config={file}", "--data.batch", "7"])[1]
    assert before.data.batch == 7
    assert flat(before) == flat(after)
    assert flat(before) != flat(parse(["vae", *NEEDED, "--data.batch", "7"])[1]), "the file counts too"


def test_presets_have_names():
    names = presets()
    assert {"vae_tiny", "hvae_tiny", "vqvae_tiny", "study/mel_vae"} <= names.keys()
    for name, file in names.items():
        assert settings_file(name) == file
        family = next(word for word in ("hvae", "vqvae", "vae", "prior") if word in name)
        assert parse([family, *NEEDED, "--config", name])[0] == family


def test_only_training_takes_files_of_settings():
    assert normalised(["evaluate", "x", "--config", "y"]) == ["evaluate", "x", "--config", "y"]


@pytest.mark.parametrize("flag", ["--data", "--data.path"])
def test_several_data_sets(flag):
    data = parse(["vae", *NEEDED, flag, "b:0.3", f"{flag}=c/:0.1:-6dB"])[1].data
    assert data.path == f"{NEEDED[NEEDED.index('--data') + 1]} + b:0.3 + c/:0.1:-6dB"
    assert normalised(["evaluate", "x", "--data", "a", "--data=b"]) == ["evaluate", "x", "--data", "a + b"]
    with pytest.raises(TrainError, match=r"--data\.path: the value is missing"):
        parse(["vae", "--data", "--run-dir", "x"])


@pytest.mark.parametrize("flag", ["--run-dir", "--run_dir"])
def test_two_folders_for_one_are_an_error(flag):
    with pytest.raises(TrainError, match="is given twice"):
        parse(["vae", *NEEDED, flag, "other"])
    assert parse(["vae", *NEEDED, "--seed", "1", "--seed", "2"])[1].seed == 2, "a default of a script may be overridden"
