"""What a run is: its settings, its attempts, and the commands that made it."""

import json
import platform
import shlex
import time
from dataclasses import dataclass
from importlib import metadata
from typing import Any

import torch

from audiovae import Autoencoder
from shards.manifest import Manifest
from train.config import default_settings
from train.runs.forecast import duration
from train.runs.latest_model import is_training_data
from train.runs.run_folder import RunDir
from train.runs.status import summary_of

LIBRARIES = ("audio-autoencoder-training", "torch", "torchaudio", "accelerate", "numpy", "soundfile")


@dataclass
class Facts:
    """Of a run.

    Attributes:
        state: What became of the run, where it has not reached its end; else empty.
        rows: Names and values for a table.
        attempts: A dict each: number, job, processes, began, took, steps, lost, ended.
        settings: (key, value, default) for all settings; the default is "" where the value is the default.
        train, evaluate: The commands to have all this again.
    """

    state: str
    rows: list[tuple[str, str]]
    attempts: list[dict[str, str]]
    settings: list[tuple[str, str, str]]
    train: str
    evaluate: str


def facts_of(run: RunDir, summary: dict[str, Any], model: Autoencoder, examples: int, manifest: Manifest) -> Facts:
    """Facts of a run whose evaluation found `summary` with its model, on shards of this manifest."""
    state = summary_of(run, time.time())
    good, spent = state["goodput"], sum(attempt["ended"] - attempt["began"] for attempt in state["attempts"])
    rows = [
        ("state", f"{state['state']}, step {state['step']:,} of {state['steps']:,}"),
        ("family", run.family),
        ("parameters", f"{sum(p.numel() for p in model.parameters()):,}"),
        ("weights measured", summary["model"]),
        ("data", str(summary["data"])),
        ("trained on", trained_on(run, manifest)),
        ("fingerprint of the training split", run.data_fingerprint),
        (f"fingerprint of split “{summary['split']}”", summary.get("split_fingerprint", "not noted")),
        ("run id", run.run_id),
        ("attempts", f"{len(state['attempts'])}, {duration(spent)} in all"),
        ("goodput", "not known" if good is None else f"{100 * good:.1f} % of the time went into steps that were kept"),
        ("steps made twice or lost", f"{state['steps_lost']:,}"),
        ("measured", f"{time.strftime('%Y-%m-%d %H:%M:%S %Z')}, {device_of(model)}"),
        ("measured with", versions()),
    ]
    words = ["python", "-m", "train", "evaluate", str(run.path)]
    words += ["--data", str(summary["data"])] if str(summary["data"]) != run.config["data.path"] else []
    words += ["--split", summary["split"], "--examples", str(examples)]
    words += ["--speech"] if "speech" in summary else []
    done = f"step {state['step']:,} of {state['steps']:,}"
    return Facts(
        state="" if run.finished_at is not None else f"{state['state']} at {done}",
        rows=rows,
        attempts=[told(attempt, state["state"]) for attempt in state["attempts"]],
        settings=settings_table(run),
        train=training_command(run),
        evaluate=shlex.join(words),
    )


def trained_on(run: RunDir, manifest: Manifest) -> str:
    """The training split in words, where these shards hold it."""
    if not is_training_data(run, manifest):
        return "other shards than those measured on"
    recordings = sum(source.split == "train" for source in manifest.sources)
    level = manifest.levels.get("train")
    hours = f", {level.hours:.3g} h" if level else ""
    return f"{recordings:,} recordings{hours}, {manifest.chunks('train'):,} chunks"


def device_of(model: Autoencoder) -> str:
    """What a model is on, in words."""
    device = next(model.parameters()).device
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    return f"{name}, {platform.system()} {platform.machine()}"


def versions() -> str:
    """Python and the libraries that decide about figures."""
    words = [f"Python {platform.python_version()}"]
    for name in LIBRARIES:
        try:
            words.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            continue
    return ", ".join(words)


def told(attempt: dict[str, Any], state: str) -> dict[str, str]:
    """An attempt as the table shows it."""
    return {
        "number": str(attempt["number"]),
        "job": attempt["job"] or "—",
        "processes": str(attempt["world"]),
        "began": time.strftime("%Y-%m-%d %H:%M", time.localtime(attempt["began"])),
        "took": duration(attempt["ended"] - attempt["began"]),
        "steps": f"{attempt['first']:,} to {attempt['reached']:,}",
        "lost": f"{attempt['lost']:,}",
        "ended": attempt["why"] or state,
    }


def flag_value(value: Any) -> str:
    """A setting as a flag takes it."""
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))


def settings_table(run: RunDir) -> list[tuple[str, str, str]]:
    """All settings, with the default where it is another one."""
    defaults = default_settings(run.family) if run.config else {}
    rows = []
    for key, value in run.config.items():
        usual = defaults.get(key)
        rows.append((key, flag_value(value), "" if value == usual or key in PLACES else flag_value(usual)))
    return rows


# Settings that every run has its own of.
PLACES = ("data.path", "run_dir")
# Settings of one attempt.
PASSING = ("stop_at", "allow_changes")


def training_command(run: RunDir) -> str:
    """The command that trains such a run to its end: all settings that are not the family's defaults."""
    defaults = default_settings(run.family)
    words = [
        "python",
        "-m",
        "train",
        run.family,
        "--data",
        run.config["data.path"],
        "--run-dir",
        str(run.config["run_dir"]),
    ]
    for key, value in run.config.items():
        if key not in (*PLACES, *PASSING) and key in defaults and value != defaults[key]:
            words += [f"--{key}", flag_value(value)]
    return shlex.join(words)
