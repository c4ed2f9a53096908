"""W&B's own files, read back with W&B's own reader."""

import json
import subprocess
import sys
from pathlib import Path

SECRET = "local-0123456789abcdef0123456789abcdef01234567"


def records(folder: Path) -> list[dict]:
    """The records of one part of a run: none where W&B was stopped before it made its file."""
    if not (files := list(folder.glob("*.wandb"))):
        return []
    (file,) = files
    command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(file)]
    printed = subprocess.run(command, text=True, capture_output=True, check=True).stdout
    return [json.loads(line) for line in printed.splitlines()]


def history(rows: list[dict]) -> list[dict]:
    """The points that were logged."""
    return [row["history"]["item"] for row in rows if row["type"] == "history"]


def parts(run: Path) -> list[Path]:
    """The folders of a run's offline parts, in order."""
    return sorted((run / "wandb").glob("offline-run-*"))


def logged(run: Path) -> list[dict]:
    """The points of all offline parts."""
    return [item for part in parts(run) for item in history(records(part))]


def assert_nowhere(run: Path, *secrets: str) -> None:
    """No file of the run's folder holds one of the secrets."""
    for file in run.rglob("*"):
        if file.is_file():
            content = file.read_bytes()
            for secret in secrets:
                assert secret.encode() not in content, (secret, file)
