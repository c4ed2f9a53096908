"""Text from files, folders and servers, made safe to show.

A run, a model or a data set may come from a stranger. Its names and values may hold escapes that a terminal obeys,
formulas for a spreadsheet, or tags and links for a page. All of them pass through here before they are shown, and the
words of a command line before they are parsed.
Imports little: the decision to requeue uses this in the last seconds of a job.
"""

import re
from collections.abc import Iterable, Sequence
from pathlib import PurePath
from typing import Any

# Characters that stay although str.isprintable() is false: the joiners of emoji, Persian and Indic text.
JOINERS = "\u200c\u200d"

_FORMULAS = tuple("=+-@\uff1d\uff0b\uff0d\uff20")  # the wide ones too
# An underscore within a word means nothing; addresses become links without any sign around them.
_MARKDOWN = re.compile(r"[&<>|`*~$@\\\[\]]|(?<![^\W_])_|_(?![^\W_])|:(?=//)|(?<=www)\.", re.IGNORECASE)


# A byte of a file name that is not UTF-8 is a lone surrogate in Python; parsers of YAML refuse these. As characters for
# private use, which nobody types, they pass.
_BYTES = {code: code - 0xDC80 + 0xF780 for code in range(0xDC80, 0xDD00)}
_BACK = {private: code for code, private in _BYTES.items()}


def without_bytes(word: str) -> str:
    """A word of a command line for a parser that refuses bytes that are not UTF-8; `with_bytes` undoes it."""
    return word.translate(_BYTES)


def with_bytes(value: Any) -> Any:
    """What a parser made of such words: texts, paths and lists of them get their bytes back; all else stays."""
    if isinstance(value, str):
        return value.translate(_BACK)
    if isinstance(value, PurePath):
        return type(value)(str(value).translate(_BACK))
    return [with_bytes(one) for one in value] if isinstance(value, list) else value


def given_twice(words: Iterable[str]) -> str:
    """The first flag that a command line gives twice, of which a parser would use the last; empty when none is."""
    seen: set[str] = set()
    for word in words:
        flag = word.partition("=")[0].replace("_", "-")
        if word == "--":
            break
        if flag.startswith("--") and flag in seen:
            return word.partition("=")[0]
        seen.add(flag)
    return ""


def printable(value: object, keep: str = "") -> str:
    """A value as one line, in which every character that is not printable is written as its escape in Python.

    Such characters are control characters, line breaks, marks that change the direction of text, and lone surrogates.
    Letters of all languages and the joiners of emoji stay.

    Args:
        value: A text, or anything else, of which ``str`` makes one.
        keep: Further characters that stay.
    """
    text = str(value)
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in JOINERS or c in keep else ascii(c)[1:-1] for c in text)


def first_few(names: Sequence[str], most: int = 5) -> str:
    """The first of some names, quoted, for a message."""
    return ", ".join(map(ascii, names[:most])) + (", ..." if len(names) > most else "")


def printable_lines(value: object) -> str:
    """The same for a message of several lines; all but the first are indented, so that none looks like another one."""
    first, *rest = str(value).rstrip("\n").split("\n")
    return "\n".join([printable(first), *(printable(line if line.startswith("  ") else f"  {line}") for line in rest)])


def for_csv(value: object) -> str:
    """A value as one cell of a table that spreadsheets open: a formula gets an apostrophe in front; numbers stay."""
    text = printable(value)
    return f"'{text}" if text.lstrip().startswith(_FORMULAS) and not _is_number(text) else text


def for_markdown(value: object) -> str:
    """A value as text within a line or a table of Markdown, which means nothing but itself: no tag, link or format."""
    return _MARKDOWN.sub(lambda found: f"&#{ord(found[0])};", printable(value))


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
