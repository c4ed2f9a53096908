"""Facts about a run's model for the model card next to the weights."""

from collections.abc import Sequence
from typing import Any

import audiovae
from audiovae import Facts, ModelError
from audiovae.card import CARD_FILE, FACTS_FILE, write_facts
from shards import Split
from shards.manifest import Manifest
from train.augment.settings import AUGMENTATIONS
from train.errors import TrainError
from train.runs.latest_model import is_training_data
from train.runs.lines import read_points
from train.runs.run_folder import METRICS_FILE, RunDir
from train.runs.settings_history import segments

MEASURES = ("si_sdr", "stft", "mel", "mse", "cosine", "loss")
# Measures of passages of recordings.
HEARD = ("level_error_high", "zimtohrli", "visqol")
# Settings on the card: those of the training, without paths.
CARD_SETTINGS = ("optim.", "weights.", "kl_warmup.", "data.batch", "seed")
NATS_PREFIX = "valid/kl_nats_per_second_"


def facts_of(run: RunDir, step: int, manifest: Manifest, valid: Split | None, diverged: str = "") -> Facts:
    """The facts about a run's model at a step: data, settings, and the held-out measures of that step, if any.

    `diverged` says what a training that diverged has left, or is empty.
    """
    level = manifest.levels.get("train")
    data: dict[str, Any] = {"fingerprint": run.data_fingerprint, "chunks": manifest.chunks("train")}
    if level:
        recordings = sum(source.split == "train" for source in manifest.sources)
        data |= {"recordings": recordings, "hours": round(level.hours, 3), "level": manifest.level}
    facts = Facts(
        name=run.name,
        steps=step,
        chunks_seen=chunks_seen(run, step),
        data=data,
        settings={name: value for name, value in run.config.items() if name.startswith(CARD_SETTINGS)},
    )
    if crop := run.config.get("data.crop"):
        facts.settings["data.crop"] = crop
    if any(run.config.get(f"augment.{name}") for name in AUGMENTATIONS):
        facts.settings |= {name: value for name, value in run.config.items() if name.startswith("augment.")}
    if run.record.started_from:
        facts.settings["started from the model"] = run.record.started_from.get("fingerprint", "")
    if run.changes:
        facts.settings["changes"] = [str(change) for change in run.changes]
    if diverged:
        facts.settings["diverged"] = diverged
    rows = (row for row in reversed(read_points(run.path / METRICS_FILE)) if row["step"] == step)
    point = next(rows, None)
    if point and valid is not None and any(f"valid/{name}" in point for name in MEASURES):
        limit = run.config["tracking.evaluate_chunks"]
        chunks = min(len(valid), limit) if limit else len(valid)
        chunks -= round(chunks * point.get("valid/silent", 0.0))
        facts.measures = {name: point[f"valid/{name}"] for name in MEASURES if f"valid/{name}" in point}
        facts.measured_on = {"split": "valid", "chunks": chunks, "fingerprint": valid.fingerprint}
        facts.measured_on["when"] = "Measured at the end of training."
        facts.nats_per_second = [point[name] for name in sorted(point) if name.startswith(NATS_PREFIX)]
    return facts


def chunks_seen(run: RunDir, step: int) -> int:
    """Chunks of training up to a step, including repeats; the size of the batch may have changed on the way."""
    parts = [part for part in segments(run.record.settings, run.changes) if part[0] < step]
    ends = [start for start, _ in parts[1:]] + [step]
    return sum((end - start) * int(part["data.batch"]) for (start, part), end in zip(parts, ends, strict=bool(parts)))


def write_measures_to_card(run: RunDir, split: Split, summary: dict[str, Any], heard: dict[str, Any]) -> str:
    """Writes the measures of an evaluation to the card of the finished model; returns the card's path, with a note.

    Args:
        run: A finished run.
        split: The split that was measured.
        summary: The content of metrics.json.
        heard: The row of its passages that has what a listener gets; may be empty.

    Raises:
        TrainError: when the card cannot be written.
    """
    measures = {name: value for name in MEASURES if (value := summary["reconstruction"].get(name)) is not None}
    chunks = summary["chunks"] - summary["silent_chunks"]
    measured_on = {"split": summary["split"], "chunks": chunks, "fingerprint": split.fingerprint}
    measures |= {name: value for name in HEARD if (value := heard.get(name)) is not None}
    nats = [row["kl_nats_per_second"] for row in summary["latents"] if "kl_nats_per_second" in row]
    return write_to_card(run, split, measures, measured_on, nats)


def write_to_card(
    run: RunDir, split: Split, measures: dict[str, float], measured_on: dict[str, Any], nats: Sequence[float] = ()
) -> str:
    """Writes measures to the card of the finished model; returns the card's path, with a note.

    Args:
        run: A finished run.
        split: The split that was measured, of the data set that the run was trained on if its model has no facts yet.
        measures, measured_on, nats: See `audiovae.add_measures`.

    Raises:
        TrainError: when the card cannot be written.
    """
    folder = run.path / "model"
    try:
        if not (folder / FACTS_FILE).exists():  # a run of a version without model cards
            manifest = split.manifest
            known = is_training_data(run, manifest)
            step = run.finished_at or 0
            write_facts(folder, facts_of(run, step, manifest, None) if known else Facts(run.name, step))
        shown = audiovae.add_measures(folder, measures, measured_on, nats)
    except (ModelError, OSError) as error:
        raise TrainError(f"{folder}: the model card was not written ({error})") from None
    return f"{folder / CARD_FILE}" + (
        "" if shown else " (without the measures: their markers were removed from the card)"
    )
