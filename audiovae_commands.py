"""The console scripts `audiovae`, `audiovae-train` and `audiovae-shards`: `python -m ...` after a check of names.

`train` and `shards` are common names. If another package has taken one of them, the scripts name its file instead of
failing within it. This module imports nothing of the project: it must load where the packages do not.
"""

import runpy
import sys
from importlib.util import find_spec
from pathlib import Path

# In the source of each package's __init__.py.
MARK = 'DISTRIBUTION = "audio-autoencoder-training"'
PACKAGES = ("audiovae", "shards", "train")


def problem(package: str) -> str:
    """Why the package that Python finds by this name is not this project's; empty if it is. Runs none of its code."""
    spec = find_spec(package)
    if spec is None:
        return f"the package {package} is missing; install audio-autoencoder-training again"
    if spec.origin:
        file = Path(spec.origin)
        if file.name == "__init__.py" and MARK in file.read_text(encoding="utf-8", errors="replace"):
            return ""
    else:  # a folder without __init__.py
        file = Path(*list(spec.submodule_search_locations or ())[:1])
    return (
        f"{file}: not the package {package} of audio-autoencoder-training but another of that name; "
        "uninstall or rename it, take its folder out of PYTHONPATH, or use an environment without it"
    )


def run(package: str, needs: tuple[str, ...]) -> int:
    """Runs a package as `python -m` does; returns 1 after one line if a package is not this project's."""
    for name in needs:
        if line := problem(name):
            print(f"error: {line}", file=sys.stderr)
            return 1
    runpy.run_module(package, run_name="__main__", alter_sys=True)
    return 0


def audiovae() -> int:
    """`python -m audiovae`."""
    return run("audiovae", ("audiovae",))


def shards() -> int:
    """`python -m shards`."""
    return run("shards", ("shards",))


def train() -> int:
    """`python -m train`; under a launcher of several processes use `-m train` itself."""
    return run("train", PACKAGES)
