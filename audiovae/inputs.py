"""Checks of input files: why a file cannot be read."""

import os
from pathlib import Path

from audiovae.errors import ModelError


def check_input(path: str | Path, kind: str) -> None:
    """Raises ModelError if a file cannot be read; `kind` is "audio" or "latents", for the message."""
    if why := _nothing(path):
        raise ModelError(f"{path}: cannot be read as {kind} ({why})")


def why_unreadable(path: str | Path, error: Exception) -> str:
    """Why reading `path` raised `error`, in a few words and without the path."""
    text = str(getattr(error, "error_string", "") or getattr(error, "strerror", "") or error)
    return _nothing(path) or " ".join(text.split()).removeprefix("Error : ").rstrip(".")


def _nothing(path: str | Path) -> str:
    """What stands there instead of a file with something in it that may be read; empty for such a file."""
    path = Path(path)
    try:
        size = path.stat().st_size
        if path.is_dir():
            return "it is a folder"
        if path.is_file() and not size:
            return "it is empty: 0 bytes"
        return "" if os.access(path, os.R_OK) else "it may not be read"
    except FileNotFoundError:
        return "it is a link to a file that does not exist" if path.is_symlink() else "it does not exist"
    except OSError as error:
        return error.strerror or "it cannot be looked at"
    except ValueError:  # a name that no file can have
        return "it does not exist"
