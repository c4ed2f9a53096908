"""How several data sets are named in one text: ``music/ + speech/:0.3``, with shares and gains."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from shards.errors import DataError

SEPARATOR = " + "
MOST_SETS = 64
MOST_DB = 60.0
_GAIN = re.compile(r":([+-]?\d{1,3}(?:\.\d{1,6})?) ?dB$", re.IGNORECASE)
# As many digits as keep sums of 64 shares in small whole numbers.
_SHARE = re.compile(r":(\d{1,6}(?:\.\d{0,6})?|\.\d{1,6})$")
_PLUSES = re.compile(r"(?<= )\++(?= |$)")  # what would pass for a separator
_HOST_ONLY = re.compile(r"[a-z][a-z0-9+.-]*://[^/]*$", re.IGNORECASE)


@dataclass(frozen=True)
class Place:
    """One data set as the user names it.

    Attributes:
        path: Its folder or URL.
        share: Its share of the chunks that training takes, or its weight; None where none is given.
        gain_db: What its chunks are amplified by, in dB.
    """

    path: str
    share: Fraction | None = None
    gain_db: float = 0.0

    @property
    def settings(self) -> str:
        """Share and gain as the user gave them, without the path: ``0.3``, ``rest -6dB``."""
        share = "rest" if self.share is None else _decimal(self.share)
        return f"{share} {_decimal(self.gain_db)}dB" if self.gain_db else share

    def moved_to(self, path: str, shared: bool = True) -> str:
        """The text that names the set at another path; ``shared`` where it is one of several."""
        path = _PLUSES.sub(lambda found: found[0] + "+", path)
        share = "" if self.share is None else f":{_decimal(self.share)}"
        gain = f":{_decimal(self.gain_db)}dB" if self.gain_db else ""
        # A slash ends a name that would pass for one with a share or a gain, or a host whose share could be its port.
        looks_like_more = (shared and _share_in(path)) or (not gain and _GAIN.search(path))
        if _HOST_ONLY.match(path) if share else looks_like_more:
            path += "/"
        return path + share + gain


def parse_places(text: str | Path) -> list[Place]:
    """The data sets that a text names, in its order.

    A single path has no share: ``data:1`` is a folder of that name. A share of a folder whose own name ends like one
    follows a slash: ``data:1/:0.3``. A plus between spaces in the name of a folder is written twice: ``rock ++ pop``.

    Raises DataError for shares and gains that cannot be.
    """
    parts = [part.strip() for part in str(text).split(SEPARATOR)]
    if len(parts) > MOST_SETS:
        raise DataError(f"{len(parts)} data sets are named, more than {MOST_SETS}: build some of them together")
    if len(parts) > 1 and not all(parts):
        raise DataError(f"{text!r} names an empty data set: write it as 'music/ + speech/:0.3'")
    return [_parse(part, len(parts) > 1) for part in parts]


def join_places(texts: list[str]) -> str:
    """One text for the data sets that several texts name."""
    return SEPARATOR.join(texts)


def text_of(places: Sequence[Place], move: Callable[[str], str]) -> str:
    """The text that names data sets whose paths have become others: ``parse_places`` reads it as the same."""
    return join_places([place.moved_to(move(place.path), len(places) > 1) for place in places])


def _share_in(text: str) -> re.Match[str] | None:
    """The share at the end of a text; the digits at the end of a URL without a path are its port."""
    return None if _HOST_ONLY.match(text) else _SHARE.search(text)


def _decimal(value: Fraction | float) -> str:
    """Up to six digits behind the point, as they are read."""
    return f"{float(value):.6f}".rstrip("0").rstrip(".")


def _parse(text: str, shared: bool) -> Place:
    gain, share = 0.0, None
    if found := _GAIN.search(text):
        gain, text = float(found[1]), text[: found.start()]
        if abs(gain) > MOST_DB:
            raise DataError(f"{text}: a gain of {gain:g} dB is beyond {MOST_DB:g} dB: give less")
    if shared and (found := _share_in(text)):
        share, text = Fraction(found[1]), text[: found.start()]
        if not share:
            raise DataError(f"{text}: a share of 0 leaves the data set out: leave it out of --data")
    return Place(_PLUSES.sub(lambda found: found[0][1:] or "+", text), share, gain)
