"""Settings files of strangers: nothing is imported, read or followed for ever, and every refusal is one line."""

import os
import re
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from train.cli.parser import parse
from train.cli.settings_files import MAX_BYTES, MAX_DEPTH, MAX_VALUES, check_size, names_of
from train.config import RUNS, flat
from train.errors import TrainError

NEEDED = ["--data", "x", "--run-dir", "y"]
ATTACK = "attack_of_a_settings_file.Class"
GROUPS = sorted({name for run in RUNS.values() for name, is_group in names_of(run).items() if is_group})
LEAVES = sorted({name for run in RUNS.values() for name, is_group in names_of(run).items() if not is_group})


@pytest.fixture
def attack(tmp_path, monkeypatch):
    """A module that can be imported; afterwards, nobody must have imported it."""
    (tmp_path / "attack_of_a_settings_file.py").write_text("class Class:\n    pass\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    assert "attack_of_a_settings_file" not in sys.modules


def refusal(file: Path, content: str, family: str = "hvae") -> str:
    """The one line that a settings file ends with."""
    file.write_text(content)
    began = time.monotonic()
    with pytest.raises(TrainError) as caught:
        parse([family, *NEEDED, "--config", str(file)])
    assert time.monotonic() - began < 20
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 1000
    return message


def nested(key: str, value: object) -> dict:
    for part in reversed(key.split(".")):
        value = {part: value}
    return value


@pytest.mark.parametrize("key", ["", *GROUPS])
def test_a_class_path_is_not_imported(attack, key):
    family = next(name for name, run in RUNS.items() if not key or key in names_of(run))
    for value in (ATTACK, {"class_path": ATTACK}, {"class_path": ATTACK, "init_args": {}}, [{"class_path": ATTACK}]):
        if key:
            content = nested(key, value)
        elif isinstance(value, dict):
            content = value
        else:
            continue
        assert "--config" in refusal(attack / "mine.yaml", yaml.safe_dump(content), family)
        if key and key != "data":
            with pytest.raises(TrainError, match=f"--{key}"):
                parse([family, *NEEDED, f"--{key}", yaml.safe_dump(value, default_flow_style=True).strip()])


plain = st.one_of(st.none(), st.booleans(), st.integers(-3, 3), st.floats(), st.sampled_from([ATTACK, "log", "x" * 50]))
values = st.recursive(
    plain,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.sampled_from(["class_path", "init_args", "lr", "trunk", "config"]), inner, max_size=3),
    ),
    max_leaves=6,
)


@hypothesis_settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(st.dictionaries(st.sampled_from([*GROUPS, *LEAVES, "config", "class_path", "subcommand"]), values, max_size=4))
def test_any_plain_values_are_settings_or_one_line(attack, content):
    file = attack / "mine.yaml"
    file.write_text(yaml.safe_dump(content))
    with suppress(TrainError):
        parse(["hvae", *NEEDED, "--config", str(file)])


def bomb(levels: int) -> str:
    lines = ["a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    for level in range(1, levels):
        lines.append(f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 10)}]")
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("optim: {betas: &a [*a]}", "the alias *a contains itself"),
        ("optim: &o {betas: *o}", "the alias *o contains itself"),
        (bomb(10), f"more than {MAX_VALUES:,} values"),
        ("optim: " + "[" * 5000 + "]" * 5000, f"deeper than {MAX_DEPTH} levels"),
        ("optim: " + "{a: " * 5000 + "1" + "}" * 5000, f"deeper than {MAX_DEPTH} levels"),
        ("- " * 5000 + "1", f"deeper than {MAX_DEPTH} levels"),
        (f"# {'x' * MAX_BYTES}\nseed: 1", "larger than"),
        ("config: /etc/passwd", "there is no setting 'config'"),
        ("data: /etc/passwd", "data is a group of settings"),
        ("optim: /etc/passwd", "optim is a group of settings"),
        ("optim: .nan", "optim is a group of settings"),
        ("tracking: null", "tracking is a group of settings"),
        ("model: {trunk: null}", "model.trunk is a group of settings"),
        ("optim: {1: 2}", "the key 1 is not the name"),
        ("1: 2", "the key 1 is not the name"),
        ("optim: {lr: {a: 1}}", "optim.lr is a single setting"),
        ("optim.lrr: 1", "did you mean optim.lr?"),
        ('x: !!python/object/apply:os.system ["true"]', "cannot be read as YAML"),
        ("seed: 1e400", "--seed"),
        (f"optim: {{lr: 1{'0' * 400}}}", "optim.lr is too large for a number"),
        (f"optim: {{betas: [0.9, 1{'0' * 400}]}}", "optim.betas is too large for a number"),
        ("model: {free_nats: null}", "--model.free_nats: null is not a valid value"),
        ("optim: {lr: null}", "--optim.lr: null is not a valid value"),
        ("a: b: c", "line 1: cannot be read as YAML"),
    ],
)
def test_what_is_no_file_of_settings_is_one_line(tmp_path, content, expected):
    assert expected in refusal(tmp_path / "mine.yaml", content)


@pytest.mark.parametrize(
    ("flag", "value"), [("--optim.lr", "{}"), ("--optim.steps", "{}"), ("--optim.betas", "[0.9, {}]")]
)
def test_a_flag_that_no_float_can_hold_is_one_line(flag, value):
    with pytest.raises(TrainError, match=rf"^{flag} \S.*: a number cannot be larger than"):
        parse(["vae", *NEEDED, flag, value.format(10**400)])


def test_a_line_of_another_file_is_not_repeated(tmp_path):
    for content in ("root:*:20228:0:99999:7:::\n", "root:$6$secret:1: 2\n", "secret/key: 1\n"):
        told = refusal(tmp_path / "mine.yaml", content)
        assert not re.search("20228|secret", told), told


def test_no_file_but_a_regular_one_is_read(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for name in (tmp_path / "pipe", "/dev/zero", tmp_path):
        with pytest.raises(TrainError, match="cannot be read"):
            parse(["vae", *NEEDED, "--config", str(name)])
        with pytest.raises(TrainError, match="is not a YAML file"):
            parse(["vae", *NEEDED, "--optim", str(name)])


def test_groups_and_aliases_still_work(tmp_path):
    (tmp_path / "optim.yaml").write_text("lr: 0.25\n")
    assert parse(["vae", *NEEDED, "--optim", str(tmp_path / "optim.yaml")])[1].optim.lr == 0.25
    assert parse(["vae", *NEEDED, "--optim={lr: 0.5}"])[1].optim.lr == 0.5
    file = tmp_path / "mine.yaml"
    file.write_text("optim: {lr: &lr 0.5, clip: *lr}\nkl_warmup.steps: 7\ncheckpoint.every: 3\n")
    config = parse(["vae", *NEEDED, "--config", str(file)])[1]
    assert (config.optim.clip, config.kl_warmup.steps, config.checkpoint.every) == (0.5, 7, 3)


@pytest.mark.parametrize("family", RUNS)
def test_what_print_config_prints_is_a_file_of_settings(family, tmp_path, capsys):
    with pytest.raises(SystemExit):
        parse([family, *NEEDED, "--optim.lr", "0.25", "--print_config"])
    file = tmp_path / "mine.yaml"
    file.write_text(capsys.readouterr().out)
    assert flat(parse([family, "--config", str(file)])[1]) == flat(parse([family, *NEEDED, "--optim.lr", "0.25"])[1])


@given(st.recursive(plain, lambda inner: st.lists(inner, max_size=4), max_leaves=30))
def test_small_yaml_passes(content):
    check_size(yaml.safe_dump(content))
