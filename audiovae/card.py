"""What is known about a model's training, and the model card that tells it: README.md beside the weights.

The facts come from whoever trained; they lie in `facts.json`, so that measures can be added later and a copy of the
model keeps them. A card is written once; later only what stands between its two marks is written anew, and what
people added stays.
"""

import dataclasses
import functools
import json
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2

from audiovae.errors import ModelError
from shards.files import check_place, write_atomically

CARD_FILE = "README.md"
FACTS_FILE = "facts.json"
BEGIN, END = "<!-- measures: written by the evaluation -->", "<!-- end of measures -->"


@dataclass
class Facts:
    """What is known about a model's training; what is not known stays empty. Names no place on the trainer's machine.

    Attributes:
        name: Of the model, such as the run's.
        steps: Optimizer steps.
        chunks_seen: Chunks that were trained on, repeats counted.
        data: Of the training split: `fingerprint`, `recordings`, `chunks`, `hours`, `level` (how recordings were
            normalised), as far as known.
        settings: Of the training, by dotted name.
        nats_per_second: Divergence from the prior, at each level of latents from the finest; empty for codes.
        measures: On held-out chunks, by name: `si_sdr` in dB, `stft`, `mel`, `mse`, `cosine`.
        measured_on: What they were taken on: `split`, `chunks`, `fingerprint`.
    """

    name: str = ""
    steps: int = 0
    chunks_seen: int = 0
    data: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    nats_per_second: list[float] = field(default_factory=list)
    measures: dict[str, float] = field(default_factory=dict)
    measured_on: dict[str, Any] = field(default_factory=dict)


def read_facts(folder: Path) -> Facts | None:
    """The facts in a model's folder, or None.

    Raises:
        ModelError: when they are damaged.
    """
    path = folder / FACTS_FILE
    if not path.is_file():
        return None
    try:
        facts = Facts(**json.loads(path.read_text(encoding="utf-8")))
        for known in dataclasses.fields(Facts):
            if type(getattr(facts, known.name)) is not type(getattr(Facts(), known.name)):
                raise ValueError(f"{known.name} is of another type")
    except (OSError, ValueError, TypeError) as error:
        raise ModelError(f"{path}: damaged ({_phrase(error)}); remove it, the model loads without") from None
    return facts


def _phrase(error: Exception) -> str:
    if isinstance(error, json.JSONDecodeError | UnicodeDecodeError):
        return "it is no JSON"
    if isinstance(error, TypeError):
        return "it holds other things than facts"
    return str(getattr(error, "strerror", "") or error)


def write_facts(folder: Path, facts: Facts) -> None:
    """Writes `facts.json`; raises OSError."""
    write_atomically(folder / FACTS_FILE, json.dumps(dataclasses.asdict(facts), indent=1) + "\n")


def write_card(folder: Path, about: dict[str, Any], shape: dict[str, Any], facts: Facts) -> bool:
    """Writes the folder's card where there is none, else only its measures.

    Args:
        folder: Of the model.
        about: What `config.json` holds.
        shape: What follows from it: `full_name`, `parameters`, `latent_shapes`, `code_size`, `bits_per_second`.
        facts: Of the training.

    Returns:
        Whether the card shows the measures: False when the marks were taken out of it.

    Raises:
        OSError: when it cannot be read or written.
        ModelError: when the card that is there is not UTF-8.
    """
    path = folder / CARD_FILE
    check_place(path)
    if path.exists():
        try:
            card = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            raise ModelError(f"{path}: not UTF-8; save it as UTF-8, or remove it and it is made anew") from None
        text = with_measures(card, facts, shape)
    else:
        text = _template("card.md").render(
            about=about, shape=shape, facts=facts, begin=BEGIN, end=END, measures=_measures(facts, shape)
        )
    write_atomically(path, text)
    return BEGIN in text and END in text


def with_measures(card: str, facts: Facts, shape: dict[str, Any]) -> str:
    """A card with new measures between its marks; one without both marks stays as it is."""
    before, begin, rest = card.partition(BEGIN)
    _, end, after = rest.partition(END)
    return f"{before}{begin}\n{_measures(facts, shape)}\n{end}{after}" if begin and end else card


def _measures(facts: Facts, shape: dict[str, Any]) -> str:
    return _template("measures.md").render(facts=facts, shape=shape).strip()


@functools.cache
def _template(name: str) -> jinja2.Template:
    loader = jinja2.FunctionLoader(
        lambda file: (resources.files("audiovae") / "templates" / file).read_text(encoding="utf-8")
    )
    environment = jinja2.Environment(
        loader=loader, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    return environment.get_template(name)
