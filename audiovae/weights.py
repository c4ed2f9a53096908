"""Saving and loading a model: JSON and safetensors, nothing that could run code.

A model folder holds `config.json` (family, rate, chunk, shape), `model.safetensors` (all weights) and the
weights of each part alone (`encoder.safetensors`, `decoder.safetensors`, ...).
"""

import dataclasses
import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from audiovae.autoencoder import Autoencoder
from audiovae.families import FAMILIES, build

FORMAT = 1
CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"


class ModelError(Exception):
    """A model folder that cannot be used; one line that names the file and the remedy."""


def describe(model: Autoencoder) -> dict[str, Any]:
    """What `config.json` holds."""
    return {
        "format": FORMAT,
        "family": model.family,
        "samples": model.samples,
        "rate": model.rate,
        "config": dataclasses.asdict(model.config),
    }


def save(model: Autoencoder, folder: str | Path, weights: dict[str, Tensor] | None = None) -> None:
    """Writes the model's folder; it is made when missing.

    Args:
        model: Gives shape and, without `weights`, the weights.
        folder: Where to write.
        weights: A state dict to write instead, such as averaged weights.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    weights = {k: v.detach().cpu().contiguous() for k, v in (weights or model.state_dict()).items()}
    save_file(weights, folder / WEIGHTS_FILE)
    for part, _ in model.named_children():
        own = {k.removeprefix(f"{part}."): v for k, v in weights.items() if k.startswith(f"{part}.")}
        if own:
            save_file(own, folder / f"{part}.safetensors")
    (folder / CONFIG_FILE).write_text(json.dumps(describe(model), indent=2) + "\n")


def load(path: str | Path, device: str = "cpu") -> Autoencoder:
    """Loads a model for use (evaluation mode) from a model folder or a run folder.

    Args:
        path: A folder with `config.json` and `model.safetensors`, or a run folder with `model/` inside.
        device: Where the weights go.

    Raises:
        ModelError: when a file is missing, damaged or of another version.
    """
    folder = Path(path)
    if not (folder / CONFIG_FILE).is_file() and (folder / "model" / CONFIG_FILE).is_file():
        folder = folder / "model"
    for name in (CONFIG_FILE, WEIGHTS_FILE):
        if not (folder / name).is_file():
            raise ModelError(f"{path}: no {name} there; give a model folder, or a run folder that has saved one")
    try:
        about = json.loads((folder / CONFIG_FILE).read_text())
        if about["format"] != FORMAT or about["family"] not in FAMILIES:
            raise ModelError(
                f"{folder / CONFIG_FILE}: format {about['format']} of family '{about['family']}' is not known here; "
                "load it with the version that wrote it"
            )
        model = build(about["family"], about["config"], int(about["samples"]), int(about["rate"]))
        model.load_state_dict(load_file(folder / WEIGHTS_FILE, device="cpu"))
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ModelError(f"{folder / CONFIG_FILE}: not a model description ({error}); export the model anew") from None
    except (SafetensorError, RuntimeError) as error:
        first = str(error).splitlines()[0]
        raise ModelError(f"{folder / WEIGHTS_FILE}: damaged or of another shape ({first}); export it anew") from None
    return model.to(device).eval()
