"""The content of run.json: what a run was made of. It has a checksum, and every checkpoint holds a copy."""

import hashlib
import json
import re
import reprlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeGuard

from shards.files import MIB, canonical_json, is_text, is_whole, parse_json, read_file
from train.runs.settings_history import DATA, Change

RECORD_FILE = "run.json"
# Other files of a damaged checkpoint do not matter here, as the record has its own checksum.
CHECKPOINT = re.compile(r"(?:damaged-)?step-(\d{8,12})\+*")
FORMAT = 1
LIMIT = 16 * MIB  # bytes of the file
# Settings that commands use, with the smallest value of those that are numbers.
NUMBERS = {"data.batch": 1, "checkpoint.every": 1, "optim.steps": 1}
TEXTS = ("data.path",)
OPTIONAL_TEXTS = ("tracking.name", "tracking.project")
OPTIONAL = ("started_from", "place", "parent", "wandb")  # entries that older versions do not have


class OtherVersionError(ValueError):
    """Another version of the program wrote the file."""


@dataclass
class Record:
    """What a run was made of.

    Attributes:
        run_id: Random id, or that of WANDB_RUN_ID, the same for all attempts; the id of the W&B run.
        family: vae, hvae or vqvae.
        config: Settings of the newest attempt, as dotted keys.
        data_fingerprint: Fingerprint of the training split of the newest attempt.
        changes: The changes of settings between attempts, oldest first; they led to `config`.
        started_from: What weights the run started from: `path`, and `fingerprint` of the model; empty without.
        place: Where the folder was at the newest attempt, see `location.Place`; empty where it is not known.
        parent: `run_id`, `path` and `step` of the run that this one is a copy of; empty where it is none.
        wandb: What W&B's environment variables said in the first attempt: sweep_id, entity, project, name.
    """

    run_id: str
    family: str
    config: dict[str, Any]
    data_fingerprint: str
    changes: list[Change] = field(default_factory=list)
    started_from: dict[str, str] = field(default_factory=dict)
    place: dict[str, Any] = field(default_factory=dict)
    parent: dict[str, Any] = field(default_factory=dict)
    wandb: dict[str, Any] = field(default_factory=dict)

    @property
    def settings(self) -> dict[str, Any]:
        """The settings together with the data's fingerprint, as the changes know them."""
        return {**self.config, DATA: self.data_fingerprint}

    def to_bytes(self) -> bytes:
        """The content of the file."""
        content: dict[str, Any] = {
            "format": FORMAT,
            "run_id": self.run_id,
            "family": self.family,
            "config": self.config,
            "data_fingerprint": self.data_fingerprint,
            "changes": [change.to_json() for change in self.changes],
        }
        content |= {name: value for name in OPTIONAL if (value := getattr(self, name))}
        return (json.dumps(content | {"sha256": checksum(content)}, indent=1) + "\n").encode()

    @classmethod
    def from_bytes(cls, content: bytes) -> "Record":
        """Reads what `to_bytes` made; files of versions without a checksum are accepted.

        Raises:
            OtherVersionError: when another version of the program wrote it.
            ValueError: when it is damaged.
        """
        try:
            values = parse_json(content)
            expected = values.pop("sha256", None)
            if expected is not None and expected != checksum(values):
                raise ValueError("its checksum does not match")
            if values["format"] != FORMAT:
                found = reprlib.repr(values["format"])
                raise OtherVersionError(f"format {found} belongs to another version of the program")
            texts = [values[name] for name in ("run_id", "family", "data_fingerprint")]
            if not all(isinstance(text, str) for text in texts) or not isinstance(values["config"], dict):
                raise ValueError("it does not describe a run")
            changes = [Change.from_json(change) for change in values.get("changes", [])]
            optional = {name: values.get(name, {}) for name in OPTIONAL}
            if not all(isinstance(value, dict) and are_plain(value) for value in optional.values()):
                raise ValueError("started_from, place, parent or wandb is no object of texts and numbers")
        except (KeyError, TypeError, AttributeError, OverflowError) as error:
            raise ValueError(f"it does not describe a run: {error}") from None
        return cls(texts[0], texts[1], values["config"], texts[2], changes, **optional)


def are_plain(content: dict[str, Any]) -> bool:
    """Whether all values are short texts or whole numbers of 64 bits."""
    return all(is_text(value) or is_inode(value) for value in content.values())


def is_inode(value: Any) -> TypeGuard[int]:
    """Whether a value is a whole number of 64 bits. Those of inodes are above 2^53 on Lustre."""
    return type(value) is int and 0 <= value < 1 << 64


def checksum(content: dict[str, Any]) -> str:
    """SHA-256 of a JSON object, whatever the order of its keys and its white space."""
    return hashlib.sha256(canonical_json(content)).hexdigest()


def check_usable(record: Record) -> None:
    """Raises ValueError when a value has another type than the commands expect, as in a file that was edited."""
    if not re.fullmatch(r"[\w-]{0,128}", record.run_id) or not re.fullmatch(r"\w{1,32}", record.family):
        raise ValueError("run_id or family is not a plain name")
    if not is_text(record.data_fingerprint):
        raise ValueError("data_fingerprint is too long")
    for key in (*NUMBERS, *TEXTS):
        if key not in record.config:
            raise ValueError(f"it has no {key}")
    pairs = [pair for change in record.changes for pair in change.settings.items()]
    for key, value in [*record.config.items(), *((key, value) for key, values in pairs for value in values)]:
        if key in NUMBERS and not (is_whole(value) and value >= NUMBERS[key]):
            raise ValueError(f"{key} is not a whole number of at least {NUMBERS[key]}")
        if key in (*TEXTS, DATA) and not is_text(value):
            raise ValueError(f"{key} is not text")
        if key in OPTIONAL_TEXTS and not (value is None or is_text(value)):
            raise ValueError(f"{key} is not text")


def copy_in_checkpoints(folder: Path) -> Record | None:
    """The intact copy in the newest checkpoint that has one, of those in a folder; None when there is none."""
    steps = {path: int(found[1]) for path in folder.glob("*") if (found := CHECKPOINT.fullmatch(path.name))}
    for path in sorted(steps, key=lambda path: steps[path], reverse=True):
        try:
            record = Record.from_bytes(read_file(path / RECORD_FILE, limit=LIMIT))
            check_usable(record)
            return record
        except (OSError, ValueError):
            continue
    return None
