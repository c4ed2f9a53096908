"""Which channels of a recording are used."""

import re
from dataclasses import dataclass

MEAN, LOUDER = "mean", "louder"
_NAMES = {"left": (0,), "right": (1,)}
_NUMBERS = re.compile(r"[1-9]\d{0,2}(,[1-9]\d{0,2})*")


@dataclass(frozen=True)
class Channels:
    """The mean of some channels, by index from 0.

    Attributes:
        indices: The channels; None for all.
        louder: Whether only the loudest channel is used, which is known when all of them were read once.
    """

    indices: tuple[int, ...] | None = None
    louder: bool = False


def parse_channels(text: str) -> Channels:
    """Reads `mean`, `left`, `right`, `louder` or numbers from 1 such as `1,2`. Raises ValueError."""
    if text == MEAN:
        return Channels()
    if text == LOUDER:
        return Channels(louder=True)
    if text in _NAMES:
        return Channels(_NAMES[text])
    if not _NUMBERS.fullmatch(text):
        raise ValueError(f"{text} names no channels: give mean, left, right, louder or numbers from 1 such as 1,2")
    return Channels(tuple(sorted({int(number) - 1 for number in text.split(",")})))
