"""Facts about a model's training (`facts.json`) and the model card made from them (`README.md`).

The training writes the facts; measures can be added later, and copies of the model keep both. A card is written once.
After that only the text between its two marks is replaced, so that edits elsewhere are kept. The facts may be a
stranger's: in the card their text is only text, without tags, links and formats.
"""

import dataclasses
import functools
import json
import re
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from audiovae.errors import ModelError
from audiovae.facts import Facts
from shards.files import (
    MIB,
    check_place,
    is_number,
    is_sealed,
    is_whole,
    read_file,
    read_object,
    sealed,
    write_atomically,
)
from shards.files.sealing import OWN
from shards.text import for_markdown

CARD_FILE = "README.md"
FACTS_FILE = "facts.json"
CARD_LIMIT = 16 * MIB  # bytes
BEGIN, END = "<!-- measures: written by the evaluation -->", "<!-- end of measures -->"


def read_facts(folder: Path) -> Facts | None:
    """Reads the facts in a model folder; None if there are none.

    Raises:
        ModelError: if they are damaged.
    """
    path = folder / FACTS_FILE
    if not path.is_file():
        return None
    try:
        content = read_object(path, follow_links=True)
        if not is_sealed(content):
            raise ValueError("its checksum does not match its content")
        facts = Facts(**{key: value for key, value in content.items() if key != OWN})
        _check(facts)
    except (OSError, ValueError, TypeError) as error:
        raise ModelError(f"{path}: damaged ({_phrase(error)}); remove it, the model loads without it") from None
    return facts


def _check(facts: Facts) -> None:
    """Raises ValueError if a value could not be shown in a card."""
    numbers = [*_values(facts.measures), *_values(facts.nats_per_second)]
    counts = [facts.steps, facts.chunks_seen]
    for known in dataclasses.fields(Facts):
        if type(getattr(facts, known.name)) is not type(getattr(Facts(), known.name)):
            raise ValueError(f"{known.name} has the wrong type")
    if not all(map(is_number, numbers)):
        raise ValueError("a measure is not a number")
    if not all(map(is_whole, counts)):
        raise ValueError("steps or chunks_seen is out of bounds")


def _values(group: Any) -> list[Any]:
    return list(group.values() if isinstance(group, dict) else group if isinstance(group, list) else ())


def _phrase(error: Exception) -> str:
    if isinstance(error, TypeError):
        return "it does not hold facts"
    return str(getattr(error, "strerror", "") or error)


def write_facts(folder: Path, facts: Facts) -> None:
    """Writes `facts.json` with its checksum; raises OSError."""
    write_atomically(folder / FACTS_FILE, json.dumps(sealed(dataclasses.asdict(facts)), indent=1) + "\n")


def write_card(folder: Path, about: dict[str, Any], shape: dict[str, Any], facts: Facts) -> bool:
    """Writes the card of a model folder, or only its measures if there is a card.

    Args:
        folder: The model folder.
        about: The content of `config.json`.
        shape: Derived values, from `Trainable.outline`.
        facts: Facts about the training.

    Returns:
        Whether the card shows the measures: False if the marks have been removed from it.

    Raises:
        OSError: if the card cannot be read or written.
        ModelError: if the existing card is not UTF-8.
    """
    path = folder / CARD_FILE
    check_place(path)
    if path.exists():
        try:
            card = read_file(path, limit=CARD_LIMIT).decode()
        except UnicodeDecodeError:
            raise ModelError(f"{path}: not UTF-8; save it as UTF-8, or remove it to have it written again") from None
        text = with_measures(card, facts, shape)
    else:
        marked = {"begin": Markup(BEGIN), "measures": Markup(_measures(facts, shape)), "end": Markup(END)}
        text = _template(shape["card"]).render(about=about, shape=shape, facts=facts, **marked)
    write_atomically(path, text)
    return BEGIN in text and END in text


def with_measures(card: str, facts: Facts, shape: dict[str, Any]) -> str:
    """Returns a card with new measures between its marks; a card without both marks is unchanged."""
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
        loader=loader, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined, finalize=_as_markdown
    )
    environment.filters["code"] = _as_code
    return environment.get_template(name)


def _as_markdown(value: Any) -> Any:
    """What a template shows: numbers and text that is Markdown already as they are, all else as mere text."""
    return value if isinstance(value, Markup | int | float) else Markup(for_markdown(value))


def _as_code(value: Any) -> Markup:
    """A plain name as code, in which nothing can be escaped; another one as mere text."""
    return Markup(f"`{value}`" if re.fullmatch(r"[A-Za-z0-9_.+-]+", str(value)) else for_markdown(value))
