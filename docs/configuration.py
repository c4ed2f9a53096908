"""Writes docs/configuration.md from the settings' dataclasses: `python docs/configuration.py`."""

import sys
from collections.abc import Iterator
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from docstring_parser import parse

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from train.config import FREE, RUNS, DataConfig  # noqa: E402

FILE = ROOT / "docs" / "configuration.md"
AUTOENCODERS = [family for family, run in RUNS.items() if not run.unused]
WORDS = {
    "PositiveInt": "integer, 1 or more",
    "NonNegativeInt": "integer, 0 or more",
    "PositiveFloat": "number above 0",
    "NonNegativeFloat": "number, 0 or more",
    "ClosedUnitInterval": "number, 0 to 1",
    "bool": "true or false",
    "int": "integer",
    "float": "number",
    "str": "text",
    "Path": "path",
}
HEAD = """# Every setting

`python docs/configuration.py` writes this page from the dataclasses that the program reads, and a test compares the
two. [models.md](models.md) explains how the settings work together; [troubleshooting.md](troubleshooting.md) says which
to change when something is wrong.

Each setting is a flag, `--optim.lr 5e-4`, and a key in the YAML files for `--config`, `optim: {lr: 5e-4}`. Flags
override the file, wherever they stand. Lists are written `[3,5,7]`. Flags may be written with dashes: `--run-dir`.
`--data DIR` is short for `--data.path DIR`. With `--print_config` the command prints its settings as YAML and exits.

`train/configs/*.yaml` are presets; `--config vae_tiny` and `--config study/mel_vae` select them from any folder. Where
nothing else describes the model, the preset with the name of the family comes first (made for GPUs).
See [models.md](models.md#presets). The defaults below hold for what no preset, file or flag names.

**Free** settings may change when a run is resumed. All others define the run: if one of them differs, the command
prints the difference and exits, unless `--allow_changes true` is set. Where no file describes the model,
`model`, `weights`, `kl_warmup` and `optim.lr` are those of the run's newest attempt unless a flag says otherwise.
"""


def words_of(kind: Any) -> str:
    """A type in words."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Literal:
        return ", ".join(f"`{value}`" for value in arguments)
    if origin is UnionType:
        return " or ".join("none" if one is NoneType else words_of(one) for one in arguments)
    if origin is list:
        return f"list of {words_of(arguments[0])}s"
    if origin is tuple:
        return f"list of {len(arguments)} {words_of(arguments[0])}s"
    return WORDS[kind.__name__]


def defaults_of(kind: type) -> dict[str, Any]:
    """The defaults of a dataclass's fields; MISSING for required ones."""
    return {
        one.name: one.default_factory() if one.default_factory is not MISSING else one.default for one in fields(kind)
    }


def shown(value: Any) -> str:
    """A default as it is written in YAML."""
    if value is MISSING:
        return "required"
    if value is None:
        return "none"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, (list, tuple)):
        return f"`[{', '.join(str(entry) for entry in value)}]`"
    return f"`{value}`" if value != "" else "empty"


def meanings(kind: type) -> dict[str, str]:
    """Descriptions of the fields from the docstring, inherited fields included."""
    found = {}
    for one in reversed(kind.__mro__):
        found |= {
            param.arg_name: " ".join((param.description or "").split()) for param in parse(one.__doc__ or "").params
        }
    return found


def is_free(key: str) -> bool:
    """Whether a setting may change when a run is resumed."""
    return any(key == free or key.startswith(f"{free}.") for free in FREE)


def plain_fields(kind: type) -> Iterator[tuple[str, Any]]:
    """Names and types of the fields that are not dataclasses."""
    for name, hint in hints_of(kind).items():
        if not is_dataclass(hint):
            yield name, hint


def hints_of(kind: type) -> dict[str, Any]:
    """Types of a dataclass's fields by name."""
    hints = get_type_hints(kind)
    return {one.name: hints[one.name] for one in fields(kind)}


def table(kind: type, prefix: str, defaults: dict[str, dict[str, Any]]) -> list[str]:
    """A table of a dataclass's plain fields; `defaults` maps families, or "" for all families, to defaults."""
    heads = [f"default, {family}" if family else "default" for family in defaults]
    lines = [f"| key | value | {' | '.join(heads)} | meaning |", f"|---|---|{'---|' * len(heads)}---|"]
    described = meanings(kind)
    for name, hint in plain_fields(kind):
        key = f"{prefix}{name}"
        meaning = described[name].replace("|", "\\|") + (" **Free.**" if is_free(key) else "")
        values = " | ".join(shown(values[name]) for values in defaults.values())
        lines.append(f"| `{key}` | {words_of(hint)} | {values} | {meaning} |")
    return [*lines, ""]


def section(kind: type, prefix: str, title: str, values: dict[str, Any], level: int = 2) -> list[str]:
    """Heading and table of one dataclass, then those of the dataclasses in it. `values` are defaults by family."""
    summary = " ".join((parse(kind.__doc__ or "").short_description or "").split())
    if "." not in prefix[:-1] and {*values} == {*AUTOENCODERS}:
        summary += " Priors have none of this."
    by_family = {
        family: {name: getattr(value, name) for name, _ in plain_fields(kind)} for family, value in values.items()
    }
    alike: dict[str, dict[str, Any]] = {}  # families with the same defaults share a column
    for family, own in by_family.items():
        names = next((names for names, other in alike.items() if other == own), "")
        if names:
            del alike[names]
        alike[f"{names}, {family}" if names else family] = own
    lines = ["#" * level + " " + title, "", summary, ""]
    lines += table(kind, prefix, {"": own} if len(alike) == 1 else alike)
    for name, hint in hints_of(kind).items():
        if is_dataclass(hint):
            inner = {family: getattr(value, name) for family, value in values.items()}
            lines += section(hint, f"{prefix}{name}.", f"`{prefix}{name}`", inner, level + 1)
    return lines


def of_some(values: dict[str, Any]) -> str:
    """The families in a heading, unless a section is for all autoencoders; "" stands for all."""
    return "" if "" in values or {*values} >= {*AUTOENCODERS} else f" of `{'`, `'.join(values)}`"


def page() -> str:
    """The whole page."""
    lines = [HEAD]
    some = next(iter(RUNS.values()))
    own = ("model", "weights")
    runs = {family: run(data=DataConfig(""), run_dir=Path()) for family, run in RUNS.items()}
    hints = hints_of(some)
    plain = {name: hint for name, hint in hints.items() if not is_dataclass(hint)}
    lines += ["## The run", "", "The same for all families.", ""]
    lines += table(some, "", {"": {name: defaults_of(some)[name] for name in plain}})
    for name, hint in hints.items():
        if is_dataclass(hint) and name not in own:
            made = {family: getattr(run, name) for family, run in runs.items() if name not in run.unused}
            if name == "data":  # its path is required
                made = {"": type("Defaults", (), defaults_of(hint))}
            lines += section(hint, f"{name}.", f"`{name}`{of_some(made)}", made)
    inner: dict[type, tuple[str, dict[str, Any]]] = {}
    for family, run in RUNS.items():
        for name in own:
            kind = hints_of(run)[name]
            value = kind()
            summary = " ".join((parse(kind.__doc__ or "").short_description or "").split())
            lines += [f"## `{name}` of `{family}`", "", summary, ""]
            flat = {one: getattr(value, one) for one, _ in plain_fields(kind)}
            lines += table(kind, f"{name}.", {"": flat})
            for one, hint in hints_of(kind).items():
                if is_dataclass(hint):
                    inner.setdefault(hint, (f"{name}.{one}.", {}))[1][family] = getattr(value, one)
    for kind, (prefix, values) in inner.items():
        lines += section(kind, prefix, f"`{prefix[:-1]}`{of_some(values)}", values)
    return "\n".join(lines).rstrip() + "\n"


if __name__ == "__main__":
    FILE.write_text(page())
