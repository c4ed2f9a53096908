"""How several data sets are named in one text: ``music/ + speech/:0.3``, with shares and gains."""

import re
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

    def moved_to(self, path: str) -> str:
        """The text that names the set at another path."""
        share = "" if self.share is None else f":{_decimal(self.share)}"
        return path + share + (f":{_decimal(self.gain_db)}dB" if self.gain_db else "")


def parse_places(text: str | Path) -> list[Place]:
    """The data sets that a text names, in its order.

    A single path has no share: ``data:1`` is a folder of that name. A share of a folder whose own name ends like one
    follows a slash: ``data:1/:0.3``.

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


def _decimal(value: Fraction | float) -> str:
    """Up to six digits behind the point, as they are read."""
    return f"{float(value):.6f}".rstrip("0").rstrip(".")


def _parse(text: str, shared: bool) -> Place:
    gain, share = 0.0, None
    if found := _GAIN.search(text):
        gain, text = float(found[1]), text[: found.start()]
        if abs(gain) > MOST_DB:
            raise DataError(f"{text}: a gain of {gain:g} dB is beyond {MOST_DB:g} dB: is it meant?")
    # The digits at the end of a URL without a path are its port.
    if shared and not _HOST_ONLY.match(text) and (found := _SHARE.search(text)):
        share, text = Fraction(found[1]), text[: found.start()]
        if not share:
            raise DataError(f"{text}: a share of 0 leaves the data set out: leave it out of --data")
    return Place(text, share, gain)
