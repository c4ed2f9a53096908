"""The set-up: uv first, pip if uv fails, and the versions of constraints.txt with either."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PINS = {
    canonicalize_name(name): version
    for name, version in re.findall(r"^([^#\s]+)==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
}

spec = importlib.util.spec_from_file_location("install", ROOT / "scripts/install.py")
install = importlib.util.module_from_spec(spec)
spec.loader.exec_module(install)

# Stands in for pip in a new venv: notes its arguments, and "installs" uv.
PIP = """
import os, pathlib, sys
with open(os.environ["CALLS"], "a") as calls:
    print("pip", *sys.argv[1:], file=calls)
if sys.argv[1:] == ["config", "list"]:
    print("global.index-url='file:///mirror'")
    if "MORE" in os.environ:
        print("global.extra-index-url='file:///more'")
elif sys.argv[-1] == "uv":
    if os.environ["UV"] == "missing":
        sys.exit(1)
    uv = pathlib.Path(sys.executable).parent / "uv"
    uv.write_text('#!/bin/sh\\necho "uv [$UV_DEFAULT_INDEX] $@" >> "$CALLS"\\n[ "$UV" = works ]\\n')
    uv.chmod(0o755)
else:
    sys.exit(os.environ["PIP"] != "works")
"""


@pytest.fixture
def clone(tmp_path) -> Path:
    """A folder with what `make .venv/installed` needs, and a Python whose venvs have the stand-in for pip."""
    folder = tmp_path / "clone"
    for name in ("Makefile", "pyproject.toml", "constraints.txt", "scripts/install.py"):
        (folder / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    (folder / "pip").mkdir()
    (folder / "pip/__init__.py").touch()
    (folder / "pip/__main__.py").write_text(PIP)
    python = folder / "python"
    python.write_text(
        f'#!/bin/sh\n[ "$2" = venv ] || exec {sys.executable} "$@"\n'
        f"{sys.executable} -m venv --without-pip .venv && cp -r pip .venv/lib/python3*/site-packages/\n"
    )
    python.chmod(0o755)
    return folder


def make(clone: Path, uv: str, pip: str = "works") -> tuple[subprocess.CompletedProcess, list[str]]:
    """Runs the rule; returns how it ended and the calls of pip and uv."""
    calls = clone / "calls"
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("UV_", "MAKE"))}
    environment |= {"CALLS": str(calls), "UV": uv, "PIP": pip}
    done = subprocess.run(
        ["make", "PYTHON=./python", ".venv/installed"], cwd=clone, env=environment, text=True, capture_output=True
    )
    return done, calls.read_text().splitlines()


WITH_PIP = "pip install --disable-pip-version-check -c constraints.txt -e .[test]"


def test_uv_installs_all_that_follows_it(clone):
    done, calls = make(clone, uv="works")
    assert done.returncode == 0, done.stderr
    assert (clone / ".venv/installed").exists()
    for_uv, config, rest = calls
    assert re.fullmatch(r"pip install .*-c \S+/constraints.txt uv", for_uv)
    assert config == "pip config list"
    python = clone / ".venv/bin/python"
    assert rest == f"uv [file:///mirror] pip install --python {python} -c constraints.txt -e .[test]"
    assert "Set-up" in done.stdout.splitlines()[1]


def test_with_several_indexes_pip_takes_the_wheel_with_libsndfile(clone, monkeypatch):
    monkeypatch.setenv("MORE", "1")
    done, calls = make(clone, uv="works")
    assert done.returncode == 0, done.stderr
    reinstall = "pip install --disable-pip-version-check -q --force-reinstall --no-deps"
    assert calls[3:] == [f"{reinstall} -c constraints.txt soundfile"]


def test_pip_installs_where_uv_fails(clone):
    done, calls = make(clone, uv="fails")
    assert done.returncode == 0, done.stderr
    assert calls[2].startswith("uv ")
    assert calls[3:] == [WITH_PIP]
    assert "uv failed" in done.stdout
    assert (clone / ".venv/installed").exists()


def test_pip_installs_where_uv_cannot_be_had(clone):
    done, calls = make(clone, uv="missing")
    assert done.returncode == 0, done.stderr
    assert calls[1:] == [WITH_PIP]
    assert "uv cannot be installed" in done.stdout
    assert (clone / ".venv/installed").exists()


def test_where_both_fail_nothing_counts_as_installed(clone):
    done, calls = make(clone, uv="fails", pip="fails")
    assert done.returncode != 0
    assert calls[-1] == WITH_PIP
    assert not (clone / ".venv/installed").exists()


def test_an_older_python_is_one_clear_line(clone):
    (clone / "python").write_text("#!/bin/sh\nexit 1\n")
    done = subprocess.run(
        ["make", "PYTHON=./python", ".venv/installed"], cwd=clone, text=True, capture_output=True, check=False
    )
    assert done.returncode != 0
    assert "error: ./python is older than Python 3.11" in done.stdout + done.stderr
    assert not (clone / ".venv").exists()


def test_uv_uses_what_pip_is_configured_with():
    options = {
        "index-url": "https://mirror/simple",
        "extra-index-url": "https://one/simple\nhttps://two/simple",
        "find-links": "/wheels /more",
        "cert": "/ca.pem",
        "default-timeout": "180",
        "constraint": "/etc/limits.txt",
        "no-index": "true",
    }
    assert install.uv_environment(options, {"HOME": "/home"}) == {
        "HOME": "/home",
        "UV_DEFAULT_INDEX": "https://mirror/simple",
        "UV_INDEX": "https://one/simple https://two/simple",
        "UV_INDEX_STRATEGY": "unsafe-best-match",
        "UV_FIND_LINKS": "/wheels,/more",
        "SSL_CERT_FILE": "/ca.pem",
        "UV_HTTP_TIMEOUT": "180",
    }
    assert install.uv_arguments(options) == ["-c", "/etc/limits.txt", "--no-index"]
    assert install.uv_environment({}, {}) == {}
    assert install.uv_arguments({}) == []
    kept = {"UV_DEFAULT_INDEX": "https://mine/simple"}
    assert install.uv_environment(options, kept)["UV_DEFAULT_INDEX"] == "https://mine/simple"


def test_a_variable_of_pip_goes_before_its_files(monkeypatch, tmp_path):
    settings = tmp_path / "pip.conf"
    settings.write_text("[global]\ncert = /global.pem\ntimeout = 7\n[install]\nfind-links =\n  /one\n  /two\n")
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", str(settings))
    monkeypatch.setenv("PIP_CERT", "/variable.pem")
    options = install.pip_options()
    assert options["cert"] == "/variable.pem"
    assert options["timeout"] == "7"
    assert options["find-links"].split() == ["/one", "/two"]


def needed(extra: str) -> set[str]:
    """Names of all distributions that the project needs with an extra, followed through those that are installed.

    Without setuptools, which some Pythons bring into a venv at a version of their own.
    """
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    left = [Requirement(line) for line in project["dependencies"] + project["optional-dependencies"][extra]]
    found: set[str] = set()
    followed: set[tuple[str, frozenset[str]]] = set()  # a package may be needed with an extra and without
    while left:
        requirement = left.pop()
        name = canonicalize_name(requirement.name)
        if name == "setuptools" or (name, frozenset(requirement.extras)) in followed:
            continue
        followed.add((name, frozenset(requirement.extras)))
        found.add(name)
        for other in map(Requirement, metadata.requires(name) or ()):
            if not other.marker or any(other.marker.evaluate({"extra": one}) for one in requirement.extras | {""}):
                left.append(other)
    return found


def test_every_installed_package_has_the_version_of_constraints():
    """So whichever of the two installs, there is one version to choose."""
    names = needed("test")
    assert len(names) > 100
    assert {name: metadata.version(name) for name in names} == {name: PINS.get(name) for name in names}


def test_uv_resolves_to_the_versions_of_constraints(tmp_path):
    uv = Path(sys.executable).parent / "uv"
    if not uv.exists():
        pytest.skip("uv is not installed: pip has set this environment up")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv"], check=True)
    options = install.pip_options()
    files = ["-c", ROOT / "constraints.txt", "-r", ROOT / "pyproject.toml", "--extra", "test"]
    done = subprocess.run(
        [uv, "pip", "install", "--dry-run", "--python", tmp_path / "venv", *install.uv_arguments(options), *files],
        env=install.uv_environment(options, os.environ),
        text=True,
        capture_output=True,
    )
    if done.returncode and re.search("error sending request|dns error|Could not connect", done.stderr):
        pytest.skip("no network to a package index")
    assert done.returncode == 0, done.stderr
    resolved = dict(re.findall(r"^ \+ (\S+)==(\S+)$", done.stderr, re.MULTILINE))
    resolved.pop("setuptools", None)
    assert set(resolved) == needed("test")
    assert resolved == {name: PINS.get(name) for name in resolved}
