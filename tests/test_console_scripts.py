"""`--version`, the console scripts, and other packages with the names of this project's."""

import os
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest

import audiovae
import audiovae_commands
import shards
import train
from audiovae.__main__ import main as audiovae_main
from shards.__main__ import main as shards_main
from train.__main__ import run as train_run

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
SCRIPTS = PROJECT["scripts"]


def run(folder: Path, *words: str, path: str = "") -> subprocess.CompletedProcess:
    """Runs Python in a folder; this project is found as an editable install is: last."""
    site = folder / "site"
    site.mkdir(exist_ok=True)
    (site / "usercustomize.py").write_text("")
    (site / "sitecustomize.py").write_text(f"import sys\nsys.path.append({str(ROOT)!r})\n")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [str(site), path]))}
    return subprocess.run([sys.executable, *words], cwd=folder, env=environment, text=True, capture_output=True)


def script(folder: Path, name: str, *words: str, path: str = "") -> subprocess.CompletedProcess:
    """Runs a console script as pip writes it."""
    module, function = SCRIPTS[name].split(":")
    file = folder / "bin" / name
    file.parent.mkdir(exist_ok=True)
    file.write_text(
        f"import sys\nfrom {module} import {function}\nif __name__ == '__main__':\n    sys.exit({function}())"
    )
    return run(folder, str(file), *words, path=path)


def test_one_version():
    assert audiovae.__version__ == metadata.version(audiovae.DISTRIBUTION) == PROJECT["version"]
    assert audiovae.DISTRIBUTION == shards.DISTRIBUTION == train.DISTRIBUTION == PROJECT["name"]
    assert f"## [{PROJECT['version']}]" in (ROOT / "CHANGELOG.md").read_text()
    assert f"\nversion: {PROJECT['version']}\n" in (ROOT / "CITATION.cff").read_text()


def test_a_package_names_its_authors():
    assert metadata.metadata(audiovae.DISTRIBUTION)["Author"] == PROJECT["authors"][0]["name"] == "The maintainers"


def test_version_of_the_commands(monkeypatch, capsys):
    expected = f"{PROJECT['name']} {PROJECT['version']}\n"
    assert shards_main(["--version"]) == 0
    assert capsys.readouterr() == (expected, "")
    monkeypatch.setattr(sys, "argv", ["audiovae", "--version"])
    assert audiovae_main() == 0
    assert capsys.readouterr() == (expected, "")
    with pytest.raises(SystemExit, match="0"):
        train_run(["--version"])
    assert capsys.readouterr() == (expected, "")


@pytest.mark.parametrize(
    ("name", "package"), [("audiovae", "audiovae"), ("audiovae-shards", "shards"), ("audiovae-train", "train")]
)
def test_a_console_script_is_the_command(tmp_path, name, package):
    # The current folder has files and folders of these names: scripts do not look there.
    for other in ("audiovae", "shards", "train"):
        (tmp_path / f"{other}.py").write_text("raise SystemExit('the wrong one')")
    done = script(tmp_path, name, "--help")
    assert done.returncode == 0, done.stderr
    assert f"usage: python -m {package}" in done.stdout


def test_shards_are_built_by_a_console_script(tmp_path):
    assert script(tmp_path, "audiovae-shards", "practice", "audio", "--minutes", "0.2").returncode == 0
    done = script(tmp_path, "audiovae-shards", "build", "audio", "data", "--workers", "2")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "data/dataset.json").exists()


@pytest.mark.parametrize(
    ("name", "package"),
    [
        ("audiovae-train", "train"),
        ("audiovae-train", "shards"),
        ("audiovae-shards", "shards"),
        ("audiovae", "audiovae"),
    ],
)
@pytest.mark.parametrize("kind", ["module", "package"])
def test_another_package_of_that_name_is_named_and_not_run(tmp_path, name, package, kind):
    other = tmp_path / "other"
    file = other / (f"{package}.py" if kind == "module" else f"{package}/__init__.py")
    file.parent.mkdir(parents=True)
    file.write_text("raise SystemExit('the wrong one')")
    done = script(tmp_path, name, "--version", path=str(other))
    assert done.returncode == 1
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith(f"error: {file}: not the package {package} of {PROJECT['name']}")
    assert "uninstall or rename it" in done.stderr


def test_a_folder_without_code_and_a_missing_package(tmp_path, monkeypatch):
    (tmp_path / "shards").mkdir()
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    assert audiovae_commands.problem("no_such_package").startswith("the package no_such_package is missing")
    (tmp_path / "no_such_folder").mkdir()
    assert audiovae_commands.problem("no_such_folder").startswith(f"{tmp_path}/no_such_folder: not the package")


def test_a_folder_of_data_named_shards_is_no_hindrance(tmp_path):
    """`python -m` looks in the current folder first; a folder without code gives way to the package."""
    (tmp_path / "shards/train").mkdir(parents=True)
    done = run(tmp_path, "-m", "train", "status", "nowhere")
    assert done.returncode == 1
    assert done.stderr.startswith("error: nowhere: ")
