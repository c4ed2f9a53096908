"""JSON files that may come from a stranger: regular files, with bounds on their size, depth and values."""

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeGuard

from shards.files.paths import read_file

MIB = 1 << 20
DEPTH = 32  # objects and lists inside each other
WHOLE = 1 << 53  # whole numbers up to here are exact as float64
LATEST = 253402300799  # the last second of the year 9999
TEXT = 10_000  # characters


# Where whole numbers of more than 64 bits may be; most content has none, so that it is read faster.
_LONG_TEXT, _LONG_BYTES = re.compile(r"\d{19}"), re.compile(rb"\d{19}")


class JSONError(ValueError):
    """Content that is no JSON, or JSON of another kind. The text is a phrase such as "it is not JSON"."""


def read_json(path: Path, limit: int = MIB, follow_links: bool = False) -> Any:
    """The content of a JSON file.

    Args:
        path: The file.
        limit: Its largest size in bytes.
        follow_links: Whether it may be reached by a link.

    Raises:
        JSONError: as ``parse_json``.
        UnsafePathError: when it is no regular file.
        OSError: when it cannot be read, or is larger than ``limit``.
    """
    return parse_json(read_file(path, follow_links=follow_links, limit=limit))


def read_object(path: Path, limit: int = MIB, follow_links: bool = False) -> dict[str, Any]:
    """The content of a JSON file that holds an object; arguments and errors as in ``read_json``."""
    content = read_json(path, limit, follow_links)
    if not isinstance(content, dict):
        raise JSONError("it is not a JSON object")
    return content


def parse_json(content: bytes | str) -> Any:
    """The value of JSON text. NaN and infinite numbers are accepted, as Python's ``json`` writes them.

    Raises:
        JSONError: when it is no JSON, has more than ``DEPTH`` levels, or a whole number of more than 64 bits.
    """
    long = _LONG_TEXT.search(content) if isinstance(content, str) else _LONG_BYTES.search(content)
    try:
        value = json.loads(content, parse_int=_bounded if long else None)
    except JSONError:
        raise
    except RecursionError:
        raise JSONError("it is nested too deeply") from None
    except ValueError:  # bytes that are not UTF-8, and numbers of thousands of digits too
        raise JSONError("it is not JSON") from None
    level = _inner([value])
    for _ in range(DEPTH):
        level = [one for group in level for one in _inner(group)]
        if not level:
            return value
    raise JSONError("it is nested too deeply")


def _bounded(digits: str) -> int:
    value = int(digits)
    if abs(value) >= 1 << 64:
        raise JSONError("a number in it is too large")
    return value


def _inner(group: dict[str, Any] | list[Any]) -> list[Any]:
    """The objects and lists in an object or a list."""
    return [one for one in (group.values() if isinstance(group, dict) else group) if isinstance(one, dict | list)]


def is_whole(value: Any) -> TypeGuard[int]:
    """Whether a value is a whole number from 0 to 2^53; bools are none."""
    return type(value) is int and 0 <= value <= WHOLE


def is_number(value: Any) -> TypeGuard[float]:
    """Whether a value is a number that a float can hold, which may be NaN or infinite; bools are none."""
    return type(value) is float or (type(value) is int and abs(value) <= WHOLE)


def is_moment(value: Any) -> bool:
    """Whether a value is a Unix time in seconds, from 1970 to the year 9999."""
    return is_number(value) and 0 <= value <= LATEST


def is_text(value: Any) -> TypeGuard[str]:
    """Whether a value is text of at most ``TEXT`` characters."""
    return isinstance(value, str) and len(value) <= TEXT


def is_flag(value: Any) -> bool:
    """Whether a value is true or false."""
    return isinstance(value, bool)


def cleaned(row: Mapping[str, Any], kinds: Mapping[str, Callable[[Any], bool]]) -> dict[str, Any]:
    """The entries of an object that have the right kind; entries that ``kinds`` does not name are left out."""
    return {key: value for key, value in row.items() if key in kinds and kinds[key](value)}


def canonical_json(content: Any) -> bytes:
    """JSON for checksums: the same whatever the order of keys and the white space of a file."""
    return json.dumps(content, sort_keys=True, separators=(",", ":")).encode()
