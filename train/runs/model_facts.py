"""What a run knows about its model, for the model card beside the weights."""

from typing import Any

import audiovae
from audiovae import Facts, ModelError
from audiovae.card import CARD_FILE, FACTS_FILE, write_facts
from shards import Split
from shards.files import read_lines
from shards.manifest import Manifest
from train.errors import TrainError
from train.runs.latest_model import is_training_data
from train.runs.run_folder import METRICS_FILE, RunDir

MEASURES = ("si_sdr", "stft", "mel", "mse", "cosine")
# Settings that tell how it was trained; those with places in them, such as the data's, are left out.
TELLING = ("optim.", "weights.", "kl_warmup.", "data.batch", "seed")
NATS = "valid/kl_nats_per_second_"


def facts_of(run: RunDir, step: int, manifest: Manifest, valid: Split | None) -> Facts:
    """What there is to tell of a run's model at a step: its data, settings, and measures taken while it trained."""
    level = manifest.levels.get("train")
    data: dict[str, Any] = {"fingerprint": run.data_fingerprint, "chunks": manifest.chunks("train")}
    if level:
        recordings = sum(source.split == "train" for source in manifest.sources)
        data |= {"recordings": recordings, "hours": round(level.hours, 3), "level": manifest.level}
    facts = Facts(
        name=run.name,
        steps=step,
        chunks_seen=step * run.config["data.batch"],
        data=data,
        settings={name: value for name, value in run.config.items() if name.startswith(TELLING)},
    )
    point = next((row for row in reversed(read_lines(run.path / METRICS_FILE)) if "valid/mse" in row), None)
    if point and valid is not None and point["step"] == step:
        wanted = run.config["tracking.evaluate_chunks"]
        chunks = min(len(valid), wanted) if wanted else len(valid)
        chunks -= round(chunks * point.get("valid/silent", 0.0))
        facts.measures = {name: point[f"valid/{name}"] for name in MEASURES if f"valid/{name}" in point}
        facts.measured_on = {"split": "valid", "chunks": chunks, "fingerprint": valid.fingerprint}
        facts.measured_on["when"] = "Taken at the end of the training."
        facts.nats_per_second = [point[name] for name in sorted(point) if name.startswith(NATS)]
    return facts


def write_measures_to_card(run: RunDir, split: Split, summary: dict[str, Any]) -> str:
    """Puts what an evaluation found into the card of the finished model; returns a line that says so.

    Args:
        run: A finished one.
        split: What was measured.
        summary: As in metrics.json.

    Raises:
        TrainError: when the card cannot be written.
    """
    folder = run.path / "model"
    measures = {name: value for name in MEASURES if (value := summary["reconstruction"][name]) is not None}
    chunks = summary["chunks"] - summary["silent_chunks"]
    measured_on = {"split": summary["split"], "chunks": chunks, "fingerprint": split.fingerprint}
    nats = [row["kl_nats_per_second"] for row in summary["latents"] if "kl_nats_per_second" in row]
    try:
        if not (folder / FACTS_FILE).exists():  # a run of the time before there were cards
            manifest = split.manifest
            known = is_training_data(run, manifest)
            step = run.finished_at or 0
            write_facts(folder, facts_of(run, step, manifest, None) if known else Facts(run.name, step))
        shown = audiovae.add_measures(folder, measures, measured_on, nats)
    except (ModelError, OSError) as error:
        raise TrainError(f"{folder}: the model card was not written ({error})") from None
    return f"{folder / CARD_FILE}" + ("" if shown else " (without the measures: the marks for them were removed)")
