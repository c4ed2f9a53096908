"""Facts of a run: its settings, its attempts, and the commands to reproduce it."""

import json
import platform
import shlex
import time
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from typing import Any

import torch

from audiovae.trainable import Trainable
from shards.manifest import Manifest
from shards.text import printable
from train.config import default_settings, preset_settings
from train.runs.forecast import duration
from train.runs.latest_model import before_phase, checkpoint_flag, is_training_data
from train.runs.run_folder import ATTEMPT_ONLY, RunDir
from train.runs.settings_history import DATA, segments
from train.runs.status import summary_of

LIBRARIES = ("audio-autoencoder-training", "torch", "torchaudio", "accelerate", "numpy", "soundfile")


@dataclass
class Facts:
    """Facts of a run for its page.

    Attributes:
        state: The state of an unfinished run; empty for a finished one.
        rows: Names and values for a table.
        attempts: One dict per attempt: number, job, processes, began, took, steps, lost, ended.
        settings: (key, value, default) for all settings; the default is "" where the value is the default.
        changes: Changes of settings between attempts, oldest first.
        train, evaluate: The commands that reproduce the run and its report.
    """

    state: str
    rows: list[tuple[str, str]]
    attempts: list[dict[str, str]]
    settings: list[tuple[str, str, str]]
    changes: list[str]
    train: str
    evaluate: str


def facts_of(run: RunDir, summary: dict[str, Any], model: Trainable, examples: int, manifest: Manifest) -> Facts:
    """Facts of a run whose model was evaluated on shards of this manifest, with the result `summary`."""
    state = summary_of(run, time.time())
    parent = {key: state["parent"].get(key, "unknown") for key in ("run_id", "step")} if state["parent"] else {}
    good, spent = state["goodput"], sum(attempt["ended"] - attempt["began"] for attempt in state["attempts"])
    rows = [
        ("state", f"{state['state']}, step {state['step']:,} of {state['steps']:,}"),
        ("family", run.family),
        ("parameters", f"{sum(p.numel() for p in model.parameters()):,}"),
        ("weights measured", summary["model"]),
        ("data", str(summary["data"])),
        ("trained on", trained_on(run, manifest)),
        ("fingerprint of the training split", run.data_fingerprint),
        (f"fingerprint of split “{summary['split']}”", summary.get("split_fingerprint", "not recorded")),
        ("run id", run.run_id),
        *([("copy of", "run {run_id}, from step {step} on".format_map(parent))] if parent else []),
        ("attempts", f"{len(state['attempts'])}, {duration(spent)} in total"),
        ("goodput", "unknown" if good is None else f"{100 * good:.1f} % of the time was spent on steps that were kept"),
        ("steps repeated or lost", f"{state['steps_lost']:,}"),
        ("measured", f"{time.strftime('%Y-%m-%d %H:%M:%S %Z')}, {device_of(model)}"),
        ("measured with", versions()),
    ]
    words = ["python", "-m", "train", "evaluate", str(run.path)]
    words += ["--data", str(summary["data"])] if str(summary["data"]) != run.config["data.path"] else []
    words += checkpoint_flag(summary["model"])
    words += ["--split", summary["split"], "--examples", str(examples)]
    words += ["--speech"] if "speech" in summary else []
    codes = summary.get("passages", {}).get("rows", [])
    words += ["--perceptual"] if any("zimtohrli" in row for row in codes) else []
    # Yardsticks that were asked for and are missing have a note.
    words += ["--no-yardsticks"] if len(codes) == 1 and not summary["passages"].get("notes") else []
    # Without the section, a repetition needs no checkpoint from before the phase.
    words += ["--no-before"] if "before_phase" not in summary and before_phase(run, summary["model"]) else []
    progress = f"step {state['step']:,} of {state['steps']:,}"
    return Facts(
        state="" if run.finished_at is not None else f"{state['state']} at {progress}",
        rows=rows,
        attempts=[attempt_row(attempt, state["state"]) for attempt in state["attempts"]],
        settings=settings_table(run),
        changes=[str(change) for change in run.changes],
        train="\n".join(training_commands(run)),
        evaluate=shlex.join(words),
    )


def trained_on(run: RunDir, manifest: Manifest) -> str:
    """The size of the training split, if these shards contain it."""
    if not is_training_data(run, manifest):
        return "other shards than those of this evaluation"
    recordings = sum(source.split == "train" for source in manifest.sources)
    level = manifest.levels.get("train")
    hours = f", {level.hours:.3g} h" if level else ""
    return f"{recordings:,} recordings{hours}, {manifest.chunks('train'):,} chunks"


def device_of(model: Trainable) -> str:
    """The device of a model and the operating system, in words."""
    device = next(model.parameters()).device
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    return f"{name}, {platform.system()} {platform.machine()}"


def versions() -> str:
    """The versions of Python and of the libraries that affect the results."""
    words = [f"Python {platform.python_version()}"]
    for name in LIBRARIES:
        try:
            words.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            continue
    return ", ".join(words)


def attempt_row(attempt: dict[str, Any], state: str) -> dict[str, str]:
    """The table row of an attempt."""
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
    """The value of a setting as its flag takes it."""
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))


def settings_table(run: RunDir) -> list[tuple[str, str, str]]:
    """All settings, each with the value without a file and flags where it differs."""
    defaults = usual_settings(run.family) if run.config else {}
    rows = []
    for key, value in run.config.items():
        usual = defaults.get(key)
        rows.append((key, flag_value(value), "" if value == usual or key in PLACES else flag_value(usual)))
    return rows


def usual_settings(family: str) -> dict[str, Any]:
    """The settings of a training without a file and flags: the defaults, and above them the preset of the family."""
    return default_settings(family) | preset_settings(family)


# Settings that differ for every run.
PLACES = ("data.path", "run_dir")


def training_commands(run: RunDir) -> list[str]:
    """The commands that train this run to its end: one, and one more for each change of its settings."""
    history = segments(run.record.settings, run.changes)
    commands = []
    for place, (start, settings) in enumerate(history):
        words = training_words(run.family, settings, history[place - 1][1] if place else {})
        if place + 1 < len(history) and (end := history[place + 1][0]) < settings["optim.steps"]:
            words += ["--stop_at", str(end)]
        words += ["--allow_changes", "true"] if start else []
        if place and settings[DATA] != history[place - 1][1][DATA]:
            commands.append(f"# from step {start + 1} on with the data of fingerprint {printable(settings[DATA])}")
        commands.append(shlex.join(words))
    return commands


def training_words(family: str, settings: dict[str, Any], before: Mapping[str, Any] | None = None) -> list[str]:
    """A command that trains with these settings, naming all that differ from those without a file and flags.

    Where it resumes a run, what changes is named too: a run keeps some of the settings `before` that are not given.
    """
    before = before or {}
    defaults = usual_settings(family)
    words = [
        "python",
        "-m",
        "train",
        family,
        "--data",
        settings["data.path"],
        "--run-dir",
        str(settings["run_dir"]),
    ]
    for key, value in settings.items():
        if (
            key not in (*PLACES, *ATTEMPT_ONLY)
            and key in defaults
            and (value != defaults[key] or value != before.get(key, value))
        ):
            words += [f"--{key}", flag_value(value)]
    return words
