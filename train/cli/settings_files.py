"""YAML of settings, checked before the parser sees it: it is small, names settings only, and nothing is imported.

The parser (jsonargparse) imports what a key `class_path` names, reads files that stand for a group of settings, and
follows an alias that contains itself for ever. A settings file may come from a stranger.
"""

import dataclasses
import re
import sys
import typing
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml

from shards.cli.usage_errors import shortened, suggestion
from shards.files import read_start
from train.cli.usage_errors import ADVICE
from train.errors import TrainError

MAX_BYTES = 1 << 20
WEIGHTS = (".safetensors", ".pt", ".pth", ".ckpt", ".bin")  # a user who gives one wants to start from it
NAME = re.compile(r"[\w. -]{1,200}")  # what may be the name of a setting, also a mistyped one
MAX_DEPTH = 20
MAX_ENTRIES = 100  # of a list; the parser's time grows with their square
MAX_VALUES = 10_000  # with aliases counted as often as they stand for something


def check_file(path: Path, name: str, kind: type, group: str = "") -> dict[Any, Any]:
    """The content of a file of settings; raises TrainError unless it holds settings of `kind` as YAML.

    Args:
        path: The file.
        name: How the user named it, such as `--config FILE`.
        kind: The dataclass of the settings.
        group: The dotted name of the group that the file holds; empty for all settings.
    """
    try:
        content = read_start(path, MAX_BYTES + 1)
        text = content.decode()
    except OSError as error:
        raise TrainError(f"{name}: cannot be read ({error.strerror or error})") from None
    except ValueError:
        raise TrainError(f"{name}: not text in UTF-8") from None
    if len(content) > MAX_BYTES:
        raise TrainError(f"{name}: larger than {MAX_BYTES:,} bytes, so it is not a settings file")
    settings = parsed(text, name)
    if not isinstance(settings, dict):
        raise TrainError(f"{name}: holds no settings; write lines such as `optim.lr: 1e-3`, see docs/configuration.md")
    check(settings, name, kind, group)
    return settings


def check_group(group: str, value: str, kind: type) -> None:
    """Raises TrainError unless the value of a flag such as `--optim` is a YAML mapping of its settings, or a file."""
    name = f"--{group}"
    settings = parsed(value, name)
    if isinstance(settings, dict):
        check(settings, name, kind, group)
    elif Path(value).is_file() and Path(value).suffix not in WEIGHTS:
        check_file(Path(value), f"{name} {value}", kind, group)
    else:
        advice = f". {ADVICE[group]}" if group in ADVICE else ""
        raise TrainError(f"{name}: {shortened(value)} is not a YAML file of settings{advice}")


def parsed(text: str, name: str) -> Any:
    """The plain values in YAML; raises TrainError when it is none, or larger or deeper than settings are."""
    try:
        check_size(text)
        return yaml.safe_load(text)
    except (ValueError, yaml.YAMLError) as error:
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        mark = getattr(error, "problem_mark", None)
        place = f", line {mark.line + 1}" if mark else ""
        raise TrainError(f"{name}{place}: cannot be read as YAML ({problem})") from None


def check_size(text: str) -> None:
    """Raises ValueError when YAML is too deep, has too many values, or has an alias that contains itself.

    Reads the events of the text, which need no recursion and expand nothing.
    """
    sizes: dict[str, int] = {}  # values below each anchor; 0 while it is open
    open_nodes: list[list[Any]] = []  # [anchor, values] of each sequence and mapping around the event
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        if isinstance(event, yaml.CollectionStartEvent):
            open_nodes.append([event.anchor, 1])
            if event.anchor:
                sizes[event.anchor] = 0
            if len(open_nodes) > MAX_DEPTH:
                raise ValueError(f"deeper than {MAX_DEPTH} levels")
            continue
        if isinstance(event, yaml.AliasEvent):
            if sizes.get(event.anchor or "") == 0:
                raise ValueError(f"the alias *{event.anchor} contains itself")
            anchor, values = None, sizes.get(event.anchor or "", 1)
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, values = open_nodes.pop()
        elif isinstance(event, yaml.ScalarEvent):
            anchor, values = event.anchor, 1
        else:
            continue
        if anchor:
            sizes[anchor] = values
        if open_nodes:
            open_nodes[-1][1] += values
        if values > MAX_VALUES or (open_nodes and open_nodes[0][1] > MAX_VALUES):
            raise ValueError(f"more than {MAX_VALUES:,} values")


def check(settings: dict[Any, Any], name: str, kind: type, group: str = "") -> None:
    """Raises TrainError when a key is no setting of `kind`, or a group of settings has a plain value."""
    known = names_of(kind)
    for key, value in walk(settings, group, {key for key, is_group in known.items() if is_group}):
        if not isinstance(key, str):
            raise TrainError(f"{name}: the key {key!r} is not the name of a setting")
        if not NAME.fullmatch(key):  # another kind of file, whose lines are nobody's business
            raise TrainError(f"{name}: a key in it cannot be the name of a setting; is this a file of settings?")
        if key not in known:
            hint = suggestion(key, [*known]) or "docs/configuration.md lists all"
            raise TrainError(f"{name}: there is no setting '{key}'; {hint}")
        if known[key]:
            what = f"a group of settings, not a single value ({shortened(repr(value))})"
            raise TrainError(f"{name}: {key} is {what}; write {key}.NAME: VALUE")
        entries = [*entries_of(value)]
        if len(entries) > MAX_ENTRIES:
            raise TrainError(f"{name}: {key} has {len(entries):,} entries; a list may have at most {MAX_ENTRIES}")
        if any(isinstance(entry, dict) for entry in entries):
            raise TrainError(f"{name}: {key} is a single setting, but its value is a mapping")
        if any(isinstance(entry, int) and abs(entry) > sys.float_info.max for entry in entries):
            raise TrainError(f"{name}: {key} is too large for a number; the largest is {sys.float_info.max:.4g}")


def walk(settings: dict[Any, Any], group: str, groups: set[str]) -> Iterator[tuple[Any, Any]]:
    """Dotted keys and values; values that are mappings are entered where the key names a group."""
    for key, value in settings.items():
        dotted = f"{group}.{key}" if group and isinstance(key, str) else key
        if dotted in groups and isinstance(value, dict):
            yield from walk(value, dotted, groups)
        else:
            yield dotted, value


def entries_of(value: Any) -> Iterator[Any]:
    """The entries of a list and of the lists in it; of any other value, the value itself."""
    if not isinstance(value, list):
        yield value
        return
    for entry in value:
        yield from entries_of(entry)


def names_of(kind: type) -> dict[str, bool]:
    """The dotted names of a dataclass's fields, nested ones included; True for those that are groups."""
    return {name: dataclasses.is_dataclass(type_) for name, type_ in types_of(kind).items()}


def types_of(kind: type, prefix: str = "") -> dict[str, Any]:
    """The types of a dataclass's fields by dotted name, nested ones included; without the groups it does not use."""
    types: dict[str, Any] = {}
    hints = typing.get_type_hints(kind)
    for field in dataclasses.fields(kind):
        if field.name in getattr(kind, "unused", ()):
            continue
        types[f"{prefix}{field.name}"] = hints[field.name]
        if dataclasses.is_dataclass(hints[field.name]):
            types |= types_of(hints[field.name], f"{prefix}{field.name}.")
    return types


def check_values(get: Callable[[str], Any], kind: type) -> None:
    """Raises TrainError when a setting has no value (null) and needs one, which the parser does not check.

    Args:
        get: The value of a setting by its dotted name.
        kind: The dataclass of the settings.
    """
    for name, type_ in types_of(kind).items():
        if not dataclasses.is_dataclass(type_) and get(name) is None and type(None) not in typing.get_args(type_):
            raise TrainError(f"--{name}: null is not a valid value; leave the setting out to use its default")
