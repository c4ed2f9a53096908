"""Settings of a model that come from a file: their types and bounds, checked before anything is allocated."""

import dataclasses
import math
import reprlib
import typing
from typing import Any

from shards.audio.rates import HIGHEST, LOWEST

LONGEST_LIST = 16
LONGEST_LISTS = {"labels": 1 << 12}  # those that may be longer
# Values beyond these only occur in files that are damaged or meant to fill the memory.
LARGEST = {
    "blocks": 64,
    "kernel": 1 << 10,
    "strides": 1 << 20,
    "level_strides": 1 << 20,
    "channels": 1 << 16,
    "level_channels": 1 << 16,
    "latent": 1 << 16,
    "latents": 1 << 16,
    "hold": 1 << 10,
    "dimension": 1 << 16,
    "size": 1 << 20,
    "bands": 1 << 12,
    "n_fft": 1 << 20,
    "iterations": 1 << 10,
}
LARGEST_NUMBER = 1 << 40  # for all others
LONGEST_CHUNK = 1 << 26  # samples


def from_dict(kind: type, values: dict[str, Any]) -> Any:
    """Makes a dataclass with nested dataclasses from plain values.

    Raises:
        TypeError: if a name is unknown, or a value has another type.
        ValueError: if a value is out of bounds.
    """
    if not isinstance(values, dict):
        raise TypeError(f"{kind.__name__} is not an object")
    types = typing.get_type_hints(kind)
    for name, value in values.items():
        wanted = types.get(name)
        if dataclasses.is_dataclass(wanted):
            values = {**values, name: from_dict(typing.cast(type, wanted), value)}
        elif wanted is not None:
            _check(name, value, wanted)
    return kind(**values)


def _check(name: str, value: Any, wanted: Any) -> None:
    origin = typing.get_origin(wanted)
    if origin is list:
        longest = LONGEST_LISTS.get(name, LONGEST_LIST)
        if not isinstance(value, list | tuple) or len(value) > longest:
            raise ValueError(f"{name} must be a list of at most {longest} entries")
        for entry in value:
            _check(name, entry, typing.get_args(wanted)[0])
    elif origin is typing.Literal:
        if not isinstance(value, str):
            raise ValueError(f"{name} must be text, not {reprlib.repr(value)}")
    elif wanted is bool:
        if not isinstance(value, bool):
            raise ValueError(f"{name} must be true or false, not {reprlib.repr(value)}")
    elif wanted in (int, float):
        number = type(value) is int or (wanted is float and type(value) is float and math.isfinite(value))
        if not number:
            what = "a whole number" if wanted is int else "a finite number"
            raise ValueError(f"{name} must be {what}, not {reprlib.repr(value)}")
        if abs(value) > (most := LARGEST.get(name, LARGEST_NUMBER)):
            raise ValueError(f"{name} is {reprlib.repr(value)}: at most {most}")


def check_chunk(samples: Any, rate: Any, lowest: int = LOWEST) -> None:
    """Raises TypeError or ValueError unless these are a chunk length in samples and a sample rate in Hz.

    `lowest` is the lowest rate; that of latents, which is one of numbers, is often lower than that of audio.
    """
    if type(samples) is not int or type(rate) is not int:
        raise TypeError("samples and rate are whole numbers")
    if not 1 <= samples <= LONGEST_CHUNK:
        raise ValueError(f"samples is {reprlib.repr(samples)}: choose 1 to {LONGEST_CHUNK}")
    if not lowest <= rate <= HIGHEST:
        raise ValueError(f"rate is {reprlib.repr(rate)} Hz: choose {lowest} to {HIGHEST}")
