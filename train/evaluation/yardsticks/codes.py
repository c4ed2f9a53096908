"""A code: what encodes a passage and decodes it again."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Coded:
    """A passage after coding: audio, [T] or [2, T] float32, and the bits that it took (NaN where it is not known)."""

    audio: np.ndarray
    bits: float = float("nan")


@dataclass(frozen=True)
class Code:
    """A code that is measured on passages.

    Attributes:
        name: Its name in tables.
        kind: "model", "file", "opus" or "linear".
        run: From audio, [T] or [2, T] float32, to the coded passage.
        about: Further fields of its row in metrics.json.
    """

    name: str
    kind: str
    run: Callable[[np.ndarray], Coded]
    about: dict[str, float | str]
