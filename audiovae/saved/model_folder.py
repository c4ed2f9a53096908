"""Saves and loads models as JSON and safetensors, which cannot run code.

A model folder holds `config.json` (family, sample rate, chunk length, configuration), `model.safetensors` (all
weights) and the weights of each submodule (`encoder.safetensors`, `decoder.safetensors`, ...). `config.json` has the
SHA-256 of each weight file and of itself, so that loading detects damage. A folder may have a model card, see
`audiovae.card`.
"""

import dataclasses
import hashlib
import json
import re
import reprlib
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from audiovae.card import CARD_FILE, FACTS_FILE, read_facts, write_card, write_facts
from audiovae.errors import ModelError
from audiovae.facts import Facts
from audiovae.models.autoencoder import Autoencoder
from audiovae.models.settings import check_chunk
from audiovae.output import model_errors, write_together, write_whole
from audiovae.saved.checksums import damaged_file, hashes_of
from audiovae.saved.kinds import KINDS, PRIOR, build_any
from audiovae.saved.load_hints import is_unfinished, newest_checkpoint, remedy
from audiovae.saved.weights_file import fits, largest_file, shapes_of_file, shapes_of_model
from audiovae.trainable import Trainable
from shards.audio.levels import LEVELS
from shards.audio.rates import LOWEST
from shards.files import MIB, check_place, is_sealed, parse_json, read_file, read_object, sealed

FORMAT = 1
CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
HASHES = "sha256"


def describe(model: Trainable) -> dict[str, Any]:
    """The content of `config.json` without checksums.

    `level` and `audio_channels` are left out at their defaults, "peak" and 1.
    """
    about = {
        "format": FORMAT,
        "family": model.family,
        "samples": model.samples,
        "rate": model.rate,
        "config": dataclasses.asdict(model.config),
    }
    defaults = {name: getattr(Trainable, name) for name in ("level", "audio_channels")}
    return about | {name: own for name, usual in defaults.items() if (own := getattr(model, name)) != usual}


def fingerprint(model: Trainable) -> str:
    """Hash of a model's configuration and weights as 32 hexadecimal digits, the same on every device.

    Settings at their defaults and buffers that only training uses are left out. So the fingerprint stays the same when
    a newer version of this package adds settings or statistics.
    """
    about = describe(model) | {"config": changed(model.config)}
    digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode())
    for name, value in sorted(model.state_dict().items()):
        if name in model.training_only or (name == "representation.gain" and value == 1):
            continue
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()[:32]


def changed(config: Any) -> dict[str, Any]:
    """The settings of a dataclass, including nested ones, that differ from their defaults."""
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
    model: Trainable,
    folder: str | Path,
    weights: dict[str, Tensor] | None = None,
    facts: Facts | None = None,
) -> None:
    """Writes a model folder, which is created if it does not exist.

    An existing model of the same family is replaced. Loading at the same time returns the old or the new model, or
    raises a ModelError. An existing card is kept except for its measures.

    Args:
        model: The model.
        folder: Where to write.
        weights: A state dict to write instead of the model's weights, such as averaged weights.
        facts: Facts about the training; with them, a model card is written.

    Raises:
        ModelError: if the folder holds a model of another family or cannot be written; then it stays as it was.
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
            write_card(aside, describe(model), model.outline(), facts)

    # Facts of the replaced model would be wrong.
    write_together(folder, write, CONFIG_FILE, stale=[FACTS_FILE] if facts is None else [])


def seal(folder: str | Path) -> None:
    """Recomputes the checksums in `config.json` after an intended change of that file or of the weight files.

    Raises:
        ModelError: if there is no model, or `config.json` cannot be written.
    """
    folder = Path(folder)
    try:
        about = read_object(folder / CONFIG_FILE, follow_links=True)
        names = {WEIGHTS_FILE, *about.get(HASHES, ())}
        about[HASHES] = hashes_of(file for name in names if (file := folder / name).is_file())
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise ModelError(f"{folder / CONFIG_FILE}: not a model description ({_phrase(error)})") from None
    write_whole(folder / CONFIG_FILE, _as_text(about).encode())


def _as_text(about: dict[str, Any]) -> str:
    """The content of `config.json` with its own checksum."""
    return json.dumps(sealed(about), indent=2) + "\n"


def _check_family(folder: Path, family: str) -> None:
    try:
        there = read_object(folder / CONFIG_FILE, follow_links=True)["family"]
    except (OSError, ValueError, TypeError, KeyError):
        return  # no model of this package
    if there != family:
        raise ModelError(
            f"{folder}: holds a model of another family, {there!s:.40}; choose another folder or remove it"
        )


def save_with_card(model: Autoencoder, folder: str | Path) -> None:
    """Saves a model with a model card; this is what `model.save_pretrained(folder)` calls."""
    save(model, folder, facts=model.facts or Facts())


def add_measures(
    folder: str | Path,
    measures: dict[str, float],
    measured_on: dict[str, Any],
    nats_per_second: Sequence[float] = (),
) -> bool:
    """Writes held-out measures into a model folder: into its facts and its card. Other text of the card is kept.

    Args:
        folder: The model folder.
        measures, measured_on: As in `Facts`; they replace earlier ones.
        nats_per_second: As in `Facts`, if measured.

    Returns:
        Whether the card shows them: False if the marks have been removed from it.

    Raises:
        ModelError: if there is no intact model, or the files cannot be written.
    """
    folder, model = Path(folder), load_any(folder)
    facts = dataclasses.replace(model.facts or Facts(), measures=measures, measured_on=measured_on)
    if nats_per_second:
        facts.nats_per_second = list(nats_per_second)
    with model_errors(folder, "the model card cannot be written"):
        check_place(folder / CARD_FILE)
        write_facts(folder, facts)
        return write_card(folder, describe(model), model.outline(), facts)


def load(path: str | Path, device: str = "cpu") -> Autoencoder:
    """Loads a model for use (evaluation mode) from a model folder or a run folder.

    Args:
        path: A folder with `config.json` and `model.safetensors`, or a run folder with `model/` inside.
        device: Device for the weights.

    Raises:
        ModelError: if a file is missing, damaged or of another version. If the run is not finished or its model is
            damaged, the message names the newest checkpoint.
    """
    model = load_any(path, device)
    if not isinstance(model, Autoencoder):
        raise ModelError(
            f"{path}: holds a prior and no autoencoder; draw recordings from it with python -m audiovae generate"
        )
    return model


def load_any(path: str | Path, device: str = "cpu") -> Trainable:
    """Loads a model of any kind, see `load`."""
    try:
        return _load(Path(path), device)
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror})") from None


def check_device(device: str) -> None:
    """Raises ModelError if this machine does not have the device."""
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
    except (RuntimeError, AssertionError, NotImplementedError, ImportError):
        if kind == "cuda":
            count = torch.cuda.device_count()
            raise ModelError(f"device {device}: PyTorch found {count} GPU(s) here; choose cuda or cpu") from None
    raise ModelError(f"device {device}: choose cpu, or cuda where there is a GPU")


def _load(path: Path, device: str) -> Trainable:
    folder = path
    if not (folder / CONFIG_FILE).is_file() and (folder / "model" / CONFIG_FILE).is_file():
        folder = folder / "model"
    for name in (CONFIG_FILE, WEIGHTS_FILE):
        if not (folder / name).is_file():
            raise ModelError(f"{path}: {_what_is_missing(path, name)}")
    check_device(device)
    description = read_file(folder / CONFIG_FILE, follow_links=True, limit=MIB)
    try:
        about = parse_json(description)
        if not isinstance(about, dict):
            raise ValueError("it is not a JSON object")
        if not is_sealed(about):
            raise ModelError(
                f"{folder / CONFIG_FILE}: damaged (its checksum does not match its content); {remedy(folder)}"
            )
        if about["format"] != FORMAT or about["family"] not in KINDS:
            found = f"format {reprlib.repr(about['format'])} of family {reprlib.repr(about['family'])}"
            raise ModelError(
                f"{folder / CONFIG_FILE}: {found} is unknown; load it with the version of audiovae that wrote it"
            )
        samples, rate, level = about["samples"], about["rate"], about.get("level", Trainable.level)
        check_chunk(samples, rate, lowest=1 if about["family"] == PRIOR else LOWEST)
        if level not in LEVELS:
            raise ValueError(f"level is {reprlib.repr(level)}: choose {' or '.join(LEVELS)}")
        channels = about.get("audio_channels", Trainable.audio_channels)
        shape = about["family"], about["config"], samples, rate, channels
        needed = shapes_of_model(*shape)
        if damaged := damaged_file(folder, dict(about.get(HASHES, {})), largest_file(needed)):
            if read_file(folder / CONFIG_FILE, follow_links=True, limit=MIB) != description:
                return _load(path, device)  # another model was saved over it in the meantime
            raise _damaged(damaged, "it is not what was saved")
        there = shapes_of_file(folder / WEIGHTS_FILE)
        if there is None:
            raise _damaged(folder / WEIGHTS_FILE, "it is not a safetensors file")
        if not fits(there, needed):
            raise _damaged(folder / WEIGHTS_FILE, f"its shapes do not match {CONFIG_FILE}")
        model = build_any(*shape)
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
        raise _damaged(folder / WEIGHTS_FILE, f"its shapes do not match {CONFIG_FILE}") from None
    model.facts = read_facts(folder)
    return model.to(device).eval()


def _what_is_missing(path: Path, name: str) -> str:
    """Why a path holds no model that can be loaded, and the remedy."""
    if path.is_file():
        return "is a file; pass the folder that contains it"
    if not path.exists():
        return "no such folder; pass a model folder or a run folder"
    newest = newest_checkpoint(path)
    if is_unfinished(path):
        there = f"load its newest checkpoint, {newest}" if newest else "wait for its first checkpoint"
        return f"the run is not finished and has no model/ yet; {there}"
    other = f"load {newest} instead" if newest else "pass a model folder, or a run folder with a saved model"
    return f"no {name} in this folder; {other}"


def _damaged(file: Path, how: str) -> ModelError:
    if file.name != WEIGHTS_FILE:
        return ModelError(f"{file}: damaged ({how}); remove it, {WEIGHTS_FILE} holds all weights")
    return ModelError(f"{file}: damaged ({how}); {remedy(file.parent)}")


def _phrase(error: Exception) -> str:
    """What is wrong with a model description, without Python's terms."""
    text = str(error).splitlines()[0] if str(error) else ""
    text = re.sub(r"\S{200,}", lambda long: f"{long[0][:80]}...", text)  # a value of a stranger's file
    if isinstance(error, KeyError):
        return f"{text} is missing"
    if found := re.search(r"unexpected keyword argument ('\w+')", text):
        return f"unknown setting {found[1]}"
    if found := re.search(r"missing \d+ required positional arguments?: (.*)", text):
        return f"{found[1]} is missing"
    if isinstance(error, OSError):
        return error.strerror or "it cannot be read"
    if isinstance(error, TypeError | AttributeError) or text.startswith(("invalid literal", "not enough", "too many")):
        return "a value has the wrong type"
    return text.rstrip(":")
