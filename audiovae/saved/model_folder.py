"""Saving and loading a model: JSON and safetensors, nothing that could run code.

A model folder holds `config.json` (family, rate, chunk, shape), `model.safetensors` (all weights) and the
weights of each part alone (`encoder.safetensors`, `decoder.safetensors`, ...). The SHA-256 of each weight file stands
in `config.json`, so that damage is told and not heard. A model that was exported for others has a model card as well,
see `audiovae.card`.
"""

import dataclasses
import hashlib
import json
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from audiovae.card import CARD_FILE, FACTS_FILE, Facts, read_facts, write_card, write_facts
from audiovae.errors import ModelError
from audiovae.levels import LEVELS
from audiovae.models.autoencoder import Autoencoder
from audiovae.models.families import FAMILIES, build
from audiovae.output import model_errors, write_together, write_whole
from audiovae.saved.checksums import damaged_file, hashes_of
from audiovae.saved.load_hints import is_unfinished, newest_checkpoint, remedy
from shards.files import check_place, read_file

FORMAT = 1
CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
HASHES = "sha256"
# Of a quantizer: what encoding and decoding never look at. (How often codes are used matters to a balanced choice.)
OF_TRAINING = {
    f"quantizer.{name}" for name in ("totals", "usage", "mean", "variance", "reference", "restarts", "updates")
}


def describe(model: Autoencoder) -> dict[str, Any]:
    """What `config.json` holds beside hashes; `level` only where recordings were not levelled by their peak."""
    about = {
        "format": FORMAT,
        "family": model.family,
        "samples": model.samples,
        "rate": model.rate,
        "config": dataclasses.asdict(model.config),
    }
    return about if model.level == Autoencoder.level else about | {"level": model.level}


def fingerprint(model: Autoencoder) -> str:
    """Hash of a model's shape and weights, the same on every device: 32 hexadecimal digits.

    Settings at their defaults and what only training uses are not in it: a model stays the same when a newer version
    of this package knows more settings or keeps more statistics.
    """
    about = describe(model) | {"config": changed(model.config)}
    digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode())
    for name, value in sorted(model.state_dict().items()):
        if name in OF_TRAINING or (name == "representation.gain" and value == 1):
            continue
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()[:32]


def changed(config: Any) -> dict[str, Any]:
    """The settings of a dataclass that differ from their defaults, nested ones too."""
    different = {}
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            if inner := changed(value):
                different[field.name] = inner
            continue
        default = field.default_factory() if callable(field.default_factory) else field.default
        if value != default:
            different[field.name] = value
    return different


def save(
    model: Autoencoder,
    folder: str | Path,
    weights: dict[str, Tensor] | None = None,
    facts: Facts | None = None,
) -> None:
    """Writes the model's folder; it is made when missing.

    A model of the same family that is there is replaced: whoever loads meanwhile gets the one or the other, or the
    word that there is none. A card that is there stays, but for its measures.

    Args:
        model: Gives shape and, without `weights`, the weights.
        folder: Where to write.
        weights: A state dict to write instead, such as averaged weights.
        facts: About the training; with them comes a model card.

    Raises:
        ModelError: when a model of another family is there, or the files cannot be written; then what was there stays.
    """
    folder = Path(folder)
    _check_family(folder, model.family)
    weights = {k: v.detach().cpu().contiguous() for k, v in (weights or model.state_dict()).items()}

    def write(aside: Path) -> None:
        save_file(weights, aside / WEIGHTS_FILE)
        for part, _ in model.named_children():
            own = {k.removeprefix(f"{part}."): v for k, v in weights.items() if k.startswith(f"{part}.")}
            if own:
                save_file(own, aside / f"{part}.safetensors")
        about = describe(model) | {HASHES: hashes_of(aside.glob("*.safetensors"))}
        (aside / CONFIG_FILE).write_text(_as_text(about))
        if facts is not None:
            check_place(folder / CARD_FILE)
            if (folder / CARD_FILE).exists():
                shutil.copy(folder / CARD_FILE, aside)
            write_facts(aside, facts)
            write_card(aside, describe(model), outline(model), facts)

    # Facts of another model that was here would be wrong.
    write_together(folder, write, CONFIG_FILE, stale=[FACTS_FILE] if facts is None else [])


def seal(folder: str | Path) -> None:
    """Writes the hashes in `config.json` anew, for somebody who has changed the weight files on purpose.

    Raises:
        ModelError: when there is no model, or it cannot be written.
    """
    folder = Path(folder)
    try:
        about = json.loads(read_file(folder / CONFIG_FILE, follow_links=True))
        names = {WEIGHTS_FILE, *about.get(HASHES, ())}
        about[HASHES] = hashes_of(file for name in names if (file := folder / name).is_file())
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise ModelError(f"{folder / CONFIG_FILE}: not a model description ({_phrase(error)})") from None
    write_whole(folder / CONFIG_FILE, _as_text(about).encode())


def _as_text(about: dict[str, Any]) -> str:
    return json.dumps(about, indent=2) + "\n"


def _check_family(folder: Path, family: str) -> None:
    try:
        there = json.loads(read_file(folder / CONFIG_FILE, follow_links=True))["family"]
    except (OSError, ValueError, TypeError, KeyError):
        return  # no model, or nobody's
    if there != family:
        raise ModelError(f"{folder}: holds a model of another family, {there}; choose another folder, or remove it")


def outline(model: Autoencoder) -> dict[str, Any]:
    """What a model card tells of a model beside its `config.json`."""
    return {
        "full_name": model.full_name,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "latent_shapes": model.latent_shapes,
        "code_size": model.code_size,
        "bits_per_second": model.bits_per_second,
    }


def save_with_card(model: Autoencoder, folder: str | Path) -> None:
    """`save` with a model card of what is known: what `model.save_pretrained(folder)` does."""
    save(model, folder, facts=model.facts or Facts())


def add_measures(
    folder: str | Path,
    measures: dict[str, float],
    measured_on: dict[str, Any],
    nats_per_second: Sequence[float] = (),
) -> bool:
    """Puts held-out measures into a model's folder: its facts and its card. What people wrote in the card stays.

    Args:
        folder: Of a model.
        measures, measured_on: As in `Facts`; they take the place of earlier ones.
        nats_per_second: As in `Facts`, where measured.

    Returns:
        Whether the card shows them: False when somebody took the marks out of it.

    Raises:
        ModelError: when there is no sound model, or the files cannot be written.
    """
    folder, model = Path(folder), load(folder)
    facts = dataclasses.replace(model.facts or Facts(), measures=measures, measured_on=measured_on)
    if nats_per_second:
        facts.nats_per_second = list(nats_per_second)
    with model_errors(folder, "the model card cannot be written"):
        check_place(folder / CARD_FILE)
        write_facts(folder, facts)
        return write_card(folder, describe(model), outline(model), facts)


def load(path: str | Path, device: str = "cpu") -> Autoencoder:
    """Loads a model for use (evaluation mode) from a model folder or a run folder.

    Args:
        path: A folder with `config.json` and `model.safetensors`, or a run folder with `model/` inside.
        device: Where the weights go.

    Raises:
        ModelError: when a file is missing, damaged or of another version; of a run that is not finished, or whose
            model is damaged, it names the newest checkpoint.
    """
    try:
        return _load(Path(path), device)
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror})") from None


def check_device(device: str) -> None:
    """Raises ModelError for a device that is not there."""
    try:
        kind = torch.device(device).type
    except RuntimeError:
        kind = ""
    if kind == "cuda" and not torch.cuda.is_available():
        raise ModelError(f"device {device}: PyTorch found no GPU here; choose cpu")
    try:
        if kind not in ("", "meta"):
            torch.empty(0, device=device)
            return
    except (RuntimeError, AssertionError, NotImplementedError):
        if kind == "cuda":
            count = torch.cuda.device_count()
            raise ModelError(f"device {device}: PyTorch found {count} GPU(s) here; choose cuda or cpu") from None
    raise ModelError(f"device {device}: choose cpu, or cuda where there is a GPU")


def _load(path: Path, device: str) -> Autoencoder:
    folder = path
    if not (folder / CONFIG_FILE).is_file() and (folder / "model" / CONFIG_FILE).is_file():
        folder = folder / "model"
    for name in (CONFIG_FILE, WEIGHTS_FILE):
        if not (folder / name).is_file():
            raise ModelError(f"{path}: {_what_is_missing(path, name)}")
    check_device(device)
    description = read_file(folder / CONFIG_FILE, follow_links=True)
    try:
        about = json.loads(description)
        if not isinstance(about, dict):
            raise ValueError("it is no JSON object")
        if about["format"] != FORMAT or about["family"] not in FAMILIES:
            raise ModelError(
                f"{folder / CONFIG_FILE}: format {about['format']} of family '{about['family']}' is not known here; "
                "load it with the version that wrote it"
            )
        samples, rate, level = int(about["samples"]), int(about["rate"]), about.get("level", Autoencoder.level)
        if min(samples, rate) < 1 or level not in LEVELS:
            raise ValueError(f"samples {samples}, rate {rate}, level {level}")
        if damaged := damaged_file(folder, dict(about.get(HASHES, {}))):
            if read_file(folder / CONFIG_FILE, follow_links=True) != description:
                return _load(path, device)  # another model was saved over it in the meantime
            raise _damaged(damaged, "it is not what was saved")
        model = build(about["family"], about["config"], samples, rate)
        model.level = level
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ModelError(
            f"{folder / CONFIG_FILE}: not a model description ({_phrase(error)}); {remedy(folder)}"
        ) from None
    try:
        model.load_state_dict(load_file(folder / WEIGHTS_FILE, device="cpu"))
    except SafetensorError as error:
        raise _damaged(folder / WEIGHTS_FILE, str(error).splitlines()[0].rpartition(": ")[2]) from None
    except (RuntimeError, ValueError, TypeError, KeyError, AttributeError):
        raise _damaged(folder / WEIGHTS_FILE, f"of another shape than {CONFIG_FILE} says") from None
    model.facts = read_facts(folder)
    return model.to(device).eval()


def _what_is_missing(path: Path, name: str) -> str:
    """Of a place without a model that can be loaded, and what to do."""
    if path.is_file():
        return "a file; give the folder that it lies in"
    if not path.exists():
        return "no such folder; give a model folder, or the folder of a run"
    newest = newest_checkpoint(path)
    if is_unfinished(path):
        there = f"load its newest checkpoint, {newest}" if newest else "wait for its first checkpoint"
        return f"the run is not finished and has no model/ yet; {there}"
    other = f"load {newest} instead" if newest else "give a model folder, or a run folder that has saved one"
    return f"no {name} there; {other}"


def _damaged(file: Path, how: str) -> ModelError:
    if file.name != WEIGHTS_FILE:
        return ModelError(f"{file}: damaged ({how}); remove it, {WEIGHTS_FILE} holds all weights")
    return ModelError(f"{file}: damaged ({how}); {remedy(file.parent)}")


def _phrase(error: Exception) -> str:
    """What is wrong with a description, in words of the description and not of Python."""
    text = str(error).splitlines()[0] if str(error) else ""
    if isinstance(error, KeyError):
        return f"{text} is missing"
    if isinstance(error, json.JSONDecodeError | UnicodeDecodeError):
        return "it is no JSON"
    if found := re.search(r"unexpected keyword argument ('\w+')", text):
        return f"no setting is called {found[1]}"
    if found := re.search(r"missing \d+ required positional arguments?: (.*)", text):
        return f"{found[1]} is missing"
    if isinstance(error, OSError):
        return error.strerror or "it cannot be read"
    if isinstance(error, TypeError | AttributeError) or text.startswith(("invalid literal", "not enough", "too many")):
        return "a value is of another type than it should be"
    return text.rstrip(":")


def from_pretrained(place: str | Path, device: str = "cpu", **download: Any) -> Autoencoder:
    """Loads a model of any family from a folder or from the Hub, see `Shareable.from_pretrained`."""
    return Autoencoder.from_pretrained(place, device, **download)


Autoencoder.folder_writer, Autoencoder.folder_reader = staticmethod(save_with_card), staticmethod(load)
