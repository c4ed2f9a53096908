"""The preset of a family. It comes before settings files and flags where none of the files describes a model."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from train.cli.presets import presets
from train.cli.settings_files import check, names_of
from train.cli.start_settings import nested, settings_to_resume
from train.config import RUNS
from train.errors import TrainError

# What these presets may name: groups of settings, and single ones.
NAMED = ("model", "weights", "kl_warmup", "optim.lr")


def describes_model(settings: Mapping[Any, Any]) -> bool:
    """Whether the content of a settings file has settings of the model."""
    return any(str(key).partition(".")[0] == "model" for key in settings)


def default_preset(family: str, run_dir: str) -> str:
    """What stands for `--config` if nothing else describes the model: a path or YAML; empty without such a preset.

    It is the file `train/configs/FAMILY.yaml`. A run that can be resumed keeps what its newest attempt had of all that
    such a preset may name, even if the file has other values by now.

    Args:
        family: The family to train.
        run_dir: The folder of the run; may be empty.

    Raises:
        TrainError: when the folder holds a run whose settings are none of the family's.
    """
    file = presets().get(family)
    if file is None:
        return ""
    known = settings_to_resume(Path(run_dir), family) if run_dir else None
    if known is None:
        return str(file)
    settings_of_today = names_of(RUNS[family])  # the run itself says what else its record holds
    kept = {key: value for key, value in known.items() if is_named(key) and key in settings_of_today}
    if not all(f"{value}".isprintable() for value in kept.values()):
        raise TrainError(
            f"--run-dir {run_dir}: run.json holds a setting with unprintable characters; choose another --run-dir"
        )
    settings = nested(kept)
    check(settings, f"--run-dir {run_dir}: run.json", RUNS[family])
    return yaml.safe_dump(settings, default_flow_style=True, width=10**6)


def is_named(key: str) -> bool:
    """Whether such a preset may name a setting, by its dotted name."""
    return any(key == name or key.startswith(f"{name}.") for name in NAMED)
