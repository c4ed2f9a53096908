"""Settings of a model that a new run starts from. They come before settings files and flags, which override them."""

from pathlib import Path
from typing import Any

import yaml

from audiovae.card import read_facts
from audiovae.errors import ModelError
from shards.files import MIB, is_sealed, read_file, read_object
from train.cli.settings_files import check
from train.config import RUNS
from train.errors import TrainError
from train.runs.latest_model import folder_of_weights
from train.runs.record import LIMIT, RECORD_FILE, Record
from train.runs.run_folder import RunDir

GROUPS = ("model", "weights")


def start_settings(source: str, family: str, run_dir: str) -> str:
    """Settings of the model in a folder, and the weights of its losses, as YAML.

    Args:
        source: A model folder, a checkpoint or a run.
        family: The family to train.
        run_dir: Folder of the run. If it can be resumed, the settings are its own, so the source may be gone.

    Raises:
        TrainError: when there is no model, it is of another family, or the family's trainings start from none.
    """
    if "start_from" in RUNS[family].unused:
        raise TrainError(
            f"--start_from: the training of a {family} always begins with random weights; leave it out, or pass the "
            "--run-dir of a run to go on with"
        )
    name = f"--start_from {source}"
    known = settings_to_resume(Path(run_dir), family) if run_dir else None
    if known is not None:
        settings = nested(known, GROUPS)
    else:
        try:
            folder = folder_of_weights(Path(source))
        except TrainError as error:
            raise TrainError(f"--start_from {error}") from None
        settings = _of_model(folder, name, family)
    check(settings, name, RUNS[family])
    return yaml.safe_dump(settings, default_flow_style=True, width=10**6)


def settings_to_resume(path: Path, family: str) -> dict[str, Any] | None:
    """The settings of a run of a family that can be resumed, by dotted names; None when there is none."""
    try:
        run = RunDir.open(path)
        return run.config if run.has_checkpoints and run.family == family else None
    except (TrainError, OSError):
        return None  # the training itself says what is wrong


def _of_model(folder: Path, name: str, family: str) -> dict[str, Any]:
    try:
        about = read_object(folder / "config.json", follow_links=True, limit=MIB)
        facts = read_facts(folder)
        known = facts.settings if facts else {}
        if (folder / RECORD_FILE).is_file():  # a checkpoint
            known = Record.from_bytes(read_file(folder / RECORD_FILE, limit=LIMIT)).config
        if not is_sealed(about) or not isinstance(about["config"], dict):
            raise ValueError("damaged")
        if about["family"] != family:
            there = f"{about['family']!s:.40}"
            starts = there not in RUNS or "start_from" not in RUNS[there].unused
            remedy = "train that one" if starts else f"choose a {family}"
            raise TrainError(f"{name}: holds a model of another family, {there}; {remedy}")
        return {"model": about["config"]} | nested(known, ("weights",))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, ModelError) as error:
        raise TrainError(f"{name}: no intact model ({str(error) or type(error).__name__}); choose another") from None


def nested(settings: dict[str, Any], groups: tuple[str, ...] = ()) -> dict[str, Any]:
    """Settings by dotted names as nested mappings: all of them, or those of some groups."""
    result: dict[str, Any] = {}
    for key, value in settings.items():
        *path, last = key.split(".")
        if not groups or (path and path[0] in groups):
            place = result
            for part in path:
                place = place.setdefault(part, {})
            place[last] = value
    return result
