"""Installs packages into the Python that runs this file: with uv in a minute, else with pip.

    .venv/bin/python scripts/install.py -c constraints.txt -e '.[test]'

The arguments are those of `pip install`. uv comes from the package index, at the version of constraints.txt, and uses
the indexes, certificates and constraints that pip is configured with. If uv cannot be installed or fails, pip installs.
Standard library only: nothing else is installed yet.
"""

import ast
import itertools
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PIP = [sys.executable, "-m", "pip"]
INSTALL = [*PIP, "install", "--disable-pip-version-check"]
# Options of pip -> variables of uv; in LISTS with the character that separates several values.
SINGLE = {
    "index-url": "UV_DEFAULT_INDEX",
    "cert": "SSL_CERT_FILE",
    "client-cert": "SSL_CLIENT_CERT",
    "proxy": "ALL_PROXY",
    "timeout": "UV_HTTP_TIMEOUT",
    "default-timeout": "UV_HTTP_TIMEOUT",
}
LISTS = {
    "extra-index-url": ("UV_INDEX", " "),
    "find-links": ("UV_FIND_LINKS", ","),
    "trusted-host": ("UV_INSECURE_HOST", " "),
}
# Packages whose wheels for this platform hold a library that their wheels for any platform lack: pip takes the former
# wherever it lies, uv the wheel of the first index that has the version.
WITH_LIBRARIES = ["soundfile"]


def pip_options() -> dict[str, str]:
    """What pip is configured with: files, `install` before `global`, and before them the PIP_* variables."""
    listed = subprocess.run([*PIP, "config", "list"], capture_output=True, text=True)
    options: dict[str, dict[str, str]] = {"global": {}, "install": {}, ":env:": {}}
    for line in listed.stdout.splitlines():
        name, equals, value = line.partition("=")
        section, _, option = name.rpartition(".")
        if equals and section in options:
            options[section][option.replace("_", "-")] = ast.literal_eval(value)
    return options["global"] | options["install"] | options[":env:"]


def uv_environment(options: Mapping[str, str], environment: Mapping[str, str]) -> dict[str, str]:
    """The environment in which uv finds what pip would find. A variable of uv that is already set stays as it is."""
    found = {name: options[option] for option, name in SINGLE.items() if options.get(option)}
    for option, (name, separator) in LISTS.items():
        if values := options.get(option, "").split():
            found[name] = separator.join(values)
    if "UV_INDEX" in found:
        # pip takes the best version of all indexes, uv by default only those of the first index with the package.
        found["UV_INDEX_STRATEGY"] = "unsafe-best-match"
    return found | dict(environment)


def uv_arguments(options: Mapping[str, str]) -> list[str]:
    """What has no variable, and pip's files of constraints: beside `-c` uv would ignore their variable."""
    constraints = [word for file in options.get("constraint", "").split() for word in ("-c", file)]
    return constraints + ["--no-index"] * (options.get("no-index", "").lower() in ("1", "true", "yes", "on"))


def uv_program() -> str | None:
    """The uv beside this Python, installed if it is missing; None if it cannot be."""
    program = Path(sys.executable).parent / "uv"
    if not program.exists():
        wanted = ["-q", "--retries", "1", "-c", str(ROOT / "constraints.txt"), "uv"]
        if subprocess.run([*INSTALL, *wanted]).returncode or not program.exists():
            return None
    return str(program)


def replace_wheels(words: list[str]) -> int:
    """Installs with pip the packages of which uv may have taken the wrong wheel; returns the exit code."""
    limits = [word for option, file in itertools.pairwise(words) if option == "-c" for word in (option, file)]
    return subprocess.run([*INSTALL, "-q", "--force-reinstall", "--no-deps", *limits, *WITH_LIBRARIES]).returncode


def main(words: list[str]) -> int:
    """Installs what the arguments name; returns the exit code."""
    if uv := uv_program():
        options = pip_options()
        command = [uv, "pip", "install", "--python", sys.executable, *uv_arguments(options), *words]
        environment = uv_environment(options, os.environ)
        if not subprocess.run(command, env=environment).returncode:
            return replace_wheels(words) if "UV_INDEX" in environment else 0
        print("uv failed, see above; installing with pip, which takes about 5 minutes", flush=True)
    else:
        print("uv cannot be installed; installing with pip, which takes about 5 minutes", flush=True)
    return subprocess.run([*INSTALL, *words]).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
