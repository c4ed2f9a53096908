"""Why a file cannot be read or written, in words for people."""

import errno
import os
import re
from pathlib import Path

_SYSTEM_ERROR = re.compile(r"\(os error (\d+)\)")


def why_unreadable(path: str | Path, error: Exception) -> str:
    """Why reading ``path`` raised ``error``, in a few words and without the path."""
    text = str(getattr(error, "error_string", "") or getattr(error, "strerror", "") or error)
    return nothing_to_read(path) or " ".join(text.split()).removeprefix("Error : ").rstrip(".")


def nothing_to_read(path: str | Path) -> str:
    """What is there instead of a readable file with content: "it is a folder"; empty for such a file."""
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


def why_unwritable(error: Exception) -> str:
    """Why writing raised ``error``, in a few words: "No space left on device"; names no temporary file."""
    if isinstance(error, FileExistsError):  # in the place of a folder
        return os.strerror(errno.ENOTDIR)
    if reason := getattr(error, "strerror", None):
        return str(reason)
    found = _SYSTEM_ERROR.search(str(error))  # of safetensors
    return os.strerror(int(found[1])) if found else str(error).splitlines()[0]
