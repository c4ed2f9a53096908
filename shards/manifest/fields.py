"""Typed access to JSON that may hold anything; every complaint says where it is."""

import reprlib
from typing import Any


class InvalidError(Exception):
    """What is wrong with a manifest."""


class Fields:
    """Typed access to a JSON object; every complaint says where it is."""

    def __init__(self, content: Any, where: str):
        if not isinstance(content, dict):
            raise InvalidError(f"{where} is not an object")
        self.content, self.where = content, where

    def get(self, key: str) -> Any:
        """A value. Raises InvalidError where there is none, as all methods do for what does not fit."""
        if key not in self.content:
            raise InvalidError(f"{self.where} has no {key}")
        return self.content[key]

    def optional(self, key: str, default: Any) -> Any:
        """A value, or the default where there is none."""
        return self.content.get(key, default)

    def integer(self, key: str, least: int = 0, most: int = 1 << 53) -> int:
        """An integer from ``least`` to ``most``."""
        value = self.get(key)
        if type(value) is not int or value < least:
            raise InvalidError(f"{key} of {self.where} must be an integer of at least {least}, not {short(value)}")
        if value > most:
            raise InvalidError(f"{key} of {self.where} must be an integer of at most {most}, not {short(value)}")
        return value

    def number(self, key: str, least: float = -1e15) -> float:
        """A finite number of at least ``least``, at most 10^15."""
        value = self.get(key)
        if type(value) not in (int, float) or not least <= value <= 1e15:  # nor NaN
            what = "a finite number" if least else "a finite number of at least 0"
            raise InvalidError(f"{key} of {self.where} must be {what}, not {short(value)}")
        return float(value)

    def text(self, key: str) -> str:
        """A text."""
        value = self.get(key)
        if not isinstance(value, str):
            raise InvalidError(f"{key} of {self.where} must be text, not {short(value)}")
        return value

    def boolean(self, key: str) -> bool:
        """True or false."""
        value = self.get(key)
        if not isinstance(value, bool):
            raise InvalidError(f"{key} of {self.where} must be true or false, not {short(value)}")
        return value

    def mapping(self, key: str) -> dict[str, Any]:
        """An object."""
        value = self.get(key)
        if not isinstance(value, dict):
            raise InvalidError(f"{key} of {self.where} must be an object")
        return value


def short(value: Any) -> str:
    """A value in a message: whatever it is, a few words on one line."""
    return reprlib.repr(value)


def as_list(value: Any, where: str) -> list[Any]:
    """A value that has to be a list. Raises InvalidError."""
    if not isinstance(value, list):
        raise InvalidError(f"{where} must be a list")
    return value
