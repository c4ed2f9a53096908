"""Error messages of wrong command lines that only `train` has; `shards.cli.usage_errors` has the others."""

import re
from collections.abc import Sequence

from shards.cli.usage_errors import PHRASES
from shards.cli.usage_errors import explain as explain_any
from train.config import RUNS

RESUME = "Run the same command with the same --run-dir to resume a run"
FRESH = f"To start a new run from other weights, use --start_from PATH. {RESUME}."
# Flags of other programs, with a sentence on what this program offers instead.
ADVICE = {
    **dict.fromkeys(("resume", "resume_from", "resume_from_checkpoint"), f"{RESUME}."),
    **dict.fromkeys(("init", "init_from", "pretrained", "from_pretrained", "checkpoint", "ckpt", "finetune"), FRESH),
    **dict.fromkeys(("load", "load_from", "restore", "restore_from"), FRESH),
}
SETS = "write several data sets as one text: music/ + speech/:0.3"


def explain(message: str, command: str, flags: Sequence[str], commands: Sequence[str]) -> str:
    """One line that names the wrong word and what is valid; see `shards.cli.usage_errors.explain`."""
    message = re.sub(r"\s+", " ", message)
    found = PHRASES["flag"].match(message)
    if found and command in RUNS and found[1] in ADVICE:
        return f"no flag --{found[1]}. {ADVICE[found[1]]}"
    line = explain_any(message, "python -m train", command, flags, commands, flag_of)
    return f"{line}; {SETS}" if line.startswith("--data.path: [") else line


def flag_of(name: str, command: str) -> str:
    """A required setting as a user writes it."""
    name = name.removeprefix(f"{command}.")
    return {"data.path": "--data", "run_dir": "--run-dir" if command in RUNS else "RUN_DIR"}.get(
        name, name.upper() if name in ("run_dirs", "family") or command == "encode" else f"--{name}"
    )
