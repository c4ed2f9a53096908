"""Checks of input: why a file cannot be read, and the range of a temperature, for the library and the commands."""

from pathlib import Path

from audiovae.errors import ModelError
from shards.files import nothing_to_read

# Beyond it, samples are only noise.
HIGHEST_TEMPERATURE = 10.0


def check_temperature(temperature: float, name: str = "temperature is") -> None:
    """Raises ModelError unless a temperature of sampling is in [0, HIGHEST_TEMPERATURE]; `name` begins the message."""
    if not 0 <= temperature <= HIGHEST_TEMPERATURE:  # NaN is in no range
        raise ModelError(f"{name} {temperature}: choose 0 to {HIGHEST_TEMPERATURE:g}")


def check_input(path: str | Path, kind: str) -> None:
    """Raises ModelError if a file cannot be read; `kind` is "audio" or "latents", for the message."""
    if why := nothing_to_read(path):
        raise ModelError(f"{path}: cannot be read as {kind} ({why})")
