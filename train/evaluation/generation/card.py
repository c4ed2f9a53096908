"""The measures of generated recordings in the model card of the prior."""

from typing import Any

from shards import Split
from train.evaluation.generation.summary import GENERATED, HELD_OUT, WITHOUT
from train.runs.model_facts import write_to_card
from train.runs.run_folder import RunDir

# The values of the card: row and key of metrics.json.
VALUES = {
    "kernel_distance": (GENERATED, "kernel_distance"),
    "kernel_distance_own_prior": (WITHOUT, "kernel_distance"),
    "frechet": (GENERATED, "frechet"),
    "frechet_own_prior": (WITHOUT, "frechet"),
    "diversity": (GENERATED, "diversity"),
    "diversity_held_out": (HELD_OUT, "diversity"),
    "near_share": (GENERATED, "near_share"),
}


def update_card(run: RunDir, split: Split, summary: dict[str, Any]) -> str:
    """Writes the measures to the card of a finished prior, if its own data were measured; returns what happened.

    Raises:
        TrainError: when the card cannot be written.
    """
    if not summary["encoded"]:
        return "unchanged, because it is not known that the prior has learned from this data set"
    rows = summary["rows"]
    found = {name: rows[row].get(key) for name, (row, key) in VALUES.items()}
    found["kernel_floor"] = (summary["kernel_floor"] or {}).get("high")
    found["frechet_floor"] = summary["frechet_floor"]
    measured_on = {"split": summary["split"], "fingerprint": split.fingerprint, "generated": summary["pieces"]}
    measured_on |= {"seconds": round(summary["seconds"], 3), "temperature": summary["temperature"]}
    return write_to_card(run, split, {name: value for name, value in found.items() if value is not None}, measured_on)
