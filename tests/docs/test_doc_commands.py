"""The commands in the documents parse: the subcommand exists, its flags are known and their values possible."""

import importlib
import re
import shlex
import subprocess
import sys
from unittest.mock import patch

import pytest
from documents import DOCUMENTS, ROOT, blocks, commands, quoted

from shards.__main__ import main as shards_main
from train.cli.parser import parse
from train.config import RUNS

PACKAGES = ("train", "shards", "audiovae")
STEPS = {"--step", "--task"}
NEEDED = {"--data": "data/", "--run-dir": "runs/first"}


def of_the_packages() -> list[tuple[str, str]]:
    """(document, what follows `-m`) of all commands of the three packages: in shell blocks, backticks, and of make."""
    lines = []
    for document in DOCUMENTS:
        text = document.read_text()
        own = [command for block in blocks(text) for command in commands(block)] + quoted(text)
        lines += [(document.name, line) for line in own]
    lines += [("Makefile", line) for line in commands(of_make("demo", "song"))]
    found = []
    for name, line in lines:
        for part in re.split(r"\s(?:&&|\||;)\s|;\s", line):
            if match := re.search(rf"(?:^|\s)-m ((?:{'|'.join(PACKAGES)})(?:\s.*)?)$", part):
                found.append((name, match[1]))
    return sorted({*found})


def of_make(*targets: str) -> str:
    """What make would run for these targets."""
    words = ["make", "-n", "-o", ".venv/installed", "PROCESSES=2", "WORKERS=2", *targets]
    return subprocess.run(words, cwd=ROOT, text=True, capture_output=True, check=True).stdout


def words_of(line: str) -> list[str]:
    """The words of a command; what stands for something else is left out, and so are redirections."""
    words = shlex.split(re.sub(r"[12&]?>.*| &$|\[[^\]]*--[^\]]*\]", "", line))
    return [word for word in words if word not in ("...", "…")]


def check_train(words: list[str]) -> None:
    """Raises when training or a tool would not take them."""
    command, *rest = words
    families = list(RUNS) if command in ("FAMILY", "$family", "{vae,hvae,vqvae}") else [command]
    for family in families:
        given = list(rest)
        if family in RUNS or family == "verify-resume":
            for flag, value in NEEDED.items():
                named = any(word.partition("=")[0] in (flag, f"{flag}.path") for word in given)
                if not named and not (family == "verify-resume" and flag == "--run-dir"):
                    given += [flag, value]
            given = [word.replace("$family", family).replace("${family}", family) for word in given]
            if family == "verify-resume" and given[:1] == ["FAMILY"]:
                given[0] = "vae"
        elif not given or given[0].startswith("--"):
            given.insert(0, "runs/first")
        if family == "which-samples" and "--step" not in given:
            given += ["--step", "1"]
        given = ["7" if given[i - 1] == "--step" and word == "S" else word for i, word in enumerate(given)]
        with patch("train.cli.parser.start_settings", return_value="{}"):  # runs/first is not there
            parse([family, *given])


def flags_of_help(run, words: list[str], capsys) -> set[str]:
    """The flags that a command's --help lists."""
    with pytest.raises(SystemExit) as end:
        run([*words, "--help"])
    assert not end.value.code, words
    return set(re.findall(r"--[\w-]+", capsys.readouterr().out.replace("_", "-")))


def audiovae_main(words: list[str]) -> None:
    """The library's command."""
    before, sys.argv = sys.argv, ["python -m audiovae", *words]
    try:
        importlib.import_module("audiovae.__main__").main()
    finally:
        sys.argv = before


def test_there_are_commands():
    lines = of_the_packages()
    assert len(lines) > 30
    assert {line.split()[0] for _, line in lines} == {*PACKAGES}
    assert len([line for name, line in lines if name == "Makefile"]) >= 10


@pytest.mark.parametrize(("document", "line"), of_the_packages(), ids=lambda value: value[:60])
def test_commands_parse(document, line, capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    package, *words = words_of(line)
    if not words or words[0] in ("COMMAND", "--help"):
        return
    if package == "train" and "--help" not in words and "--print_config" not in words:
        check_train(words)
        return
    if "--help" in words or package == "train":
        return
    run = shards_main if package == "shards" else audiovae_main
    known = flags_of_help(run, words[:1], capsys)
    assert {word.partition("=")[0].replace("_", "-") for word in words if word.startswith("--")} <= known


@pytest.mark.parametrize("line", ["train hvae --optim.speed 3", "train fly", "train status runs/first --jsn"])
def test_a_wrong_command_is_seen(line, monkeypatch):
    from train.errors import TrainError

    monkeypatch.chdir(ROOT)
    with pytest.raises(TrainError):
        check_train(words_of(line)[1:])
