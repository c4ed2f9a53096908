"""What a run takes from W&B's environment variables: those of its first attempt hold for all attempts.

A sweep's agent names a run by WANDB_RUN_ID and WANDB_SWEEP_ID. A job that is requeued may start without them, and has
to go on in the same W&B run. docs/tracking.md has the rule of each variable.
"""

import os
import re

from shards.files import is_text
from shards.text import printable
from train.config import TrackingConfig
from train.errors import TrainError
from train.runs.run_folder import RunDir

# Entries of `wandb` in run.json, by the variable that they come from.
RECORDED = {"WANDB_SWEEP_ID": "sweep_id", "WANDB_ENTITY": "entity", "WANDB_PROJECT": "project", "WANDB_NAME": "name"}
# Ways to choose the W&B run that contradict the run folder, which alone decides.
OTHER_RUN = ("WANDB_RESUME_FROM", "WANDB_FORK_FROM")
PROJECT = "audio-autoencoders"
MODES = {"online": "online", "run": "online", "offline": "offline", "dryrun": "offline", "disabled": "disabled"}


def mode_of_environment() -> str:
    """The value of WANDB_MODE as online, offline or disabled; empty when it is not set. Raises TrainError."""
    if not (given := os.environ.get("WANDB_MODE", "")):
        return ""
    if given not in MODES:
        raise TrainError(
            f"WANDB_MODE={printable(given)}: only online, offline and disabled are possible; set one, or pass "
            "--tracking.wandb"
        )
    return MODES[given]


def identity(tracking: TrackingConfig) -> tuple[str, dict[str, str]]:
    """The W&B id that the environment names, or "", and what run.json records of the environment.

    Raises:
        TrainError: when a variable is set that the program cannot follow.
    """
    mode = tracking.wandb if tracking.wandb != "auto" else mode_of_environment()
    if mode == "disabled":
        return "", {}
    if (resume := os.environ.get("WANDB_RESUME", "allow")) not in ("", "allow", "auto"):
        raise TrainError(
            f"WANDB_RESUME={printable(resume)}: the run folder decides whether a run is resumed, which W&B calls "
            "allow; unset WANDB_RESUME"
        )
    for name in OTHER_RUN:
        if os.environ.get(name):
            raise TrainError(
                f"{name} is set, but the run folder decides which W&B run this is: unset {name}; to branch a run, copy "
                "its folder and pass --relocated copied"
            )
    run_id = os.environ.get("WANDB_RUN_ID", "")
    if run_id and not re.fullmatch(r"[\w-]{1,128}", run_id):
        raise TrainError(
            f"WANDB_RUN_ID={printable(run_id)}: an id has letters, digits, _ and - only, at most 128; choose another"
        )
    found = {entry: value for name, entry in RECORDED.items() if (value := os.environ.get(name))}
    for entry, value in found.items():
        if not is_text(value):
            raise TrainError(f"WANDB_{entry.upper()} is too long; choose another")
    return run_id, found


def project_of(run: RunDir, given: str) -> str:
    """The W&B project: the setting, else that of the first attempt's environment, else the default."""
    return given or run.record.wandb.get("project") or PROJECT


def name_of(run: RunDir, given: str) -> str:
    """The name of the W&B run: the setting, else that of the first attempt's environment, else the folder's."""
    return given or run.record.wandb.get("name") or run.name


def restore_environment(run: RunDir) -> None:
    """Gives W&B the variables of the first attempt. In a sweep it reads id, entity and project from there alone."""
    for name, entry in RECORDED.items():
        if value := run.record.wandb.get(entry):
            os.environ[name] = value
    if "sweep_id" in run.record.wandb:
        os.environ["WANDB_RUN_ID"] = run.run_id
    os.environ.pop("WANDB_RESUME", None)


def notes(run: RunDir) -> list[str]:
    """Lines about variables of this attempt that are not used."""
    found = []
    for name, entry in RECORDED.items():
        given, first = os.environ.get(name), run.record.wandb.get(entry)
        if given and first and given != first:
            found.append(f"{name}={given} is not used: since its first attempt, the run has {first}")
    given = os.environ.get("WANDB_RUN_ID")
    if given and given != run.run_id:
        found.append(f"WANDB_RUN_ID={given} is not used: since its first attempt, the run has the id {run.run_id}")
    if os.environ.get("WANDB_DIR") and not os.environ.get("WANDB_SWEEP_ID"):  # agents of sweeps set both
        found.append(f"WANDB_DIR is not used: W&B's files of the run are in {run.path}/wandb")
    return found
