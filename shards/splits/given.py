"""Groups and splits that the user gives: by folders, by a pattern, or in a CSV file."""

import csv
import re
from collections.abc import Callable, Iterable
from pathlib import Path, PurePosixPath

from shards.errors import DataError
from shards.text import first_few

# Names of folders, and of splits in a CSV file.
NAMES = {
    "train": "train",
    "training": "train",
    "valid": "valid",
    "validation": "valid",
    "val": "valid",
    "dev": "valid",
    "test": "test",
    "testing": "test",
}


def grouping(how: str) -> Callable[[str], str]:
    """A function that names the group of a path; an empty name is a group of its own.

    Args:
        how: `folder`; a CSV file with the columns `path` and `group`; or a regular expression, whose first group, or
            else the whole match, is the name. Empty: no groups.

    Raises:
        DataError: when it is none of them.
    """
    if not how:
        return lambda path: ""
    if how == "folder":
        return lambda path: str(PurePosixPath(path).parent) if "/" in path else ""
    if how.lower().endswith(".csv"):
        groups = _table(Path(how), "group", "--group-by")
        return lambda path: groups.get(path, "")
    try:
        pattern = re.compile(how)
    except re.error as error:
        raise DataError(
            f"--group-by {how} is neither `folder` nor a CSV file nor a regular expression ({error})"
        ) from None

    def by_pattern(path: str) -> str:
        found = pattern.search(path)
        return (found[1] or "" if pattern.groups else found[0]) if found else ""

    return by_pattern


def splits_of_table(file: str, paths: Iterable[str]) -> dict[str, str]:
    """The split of each path by a CSV file with the columns `path` and `split`. Raises DataError."""
    found = _table(Path(file), "split", "--splits")
    for path, name in found.items():
        if name.lower() not in NAMES:
            raise DataError(f"{file}: {path} is in a split {name!r}: give train, valid or test")
    return _all({path: NAMES[name.lower()] for path, name in found.items()}, paths, f"are not listed in {file}")


def splits_of_folders(paths: Iterable[str]) -> dict[str, str]:
    """The split of each path by its first folder, such as `train`. Raises DataError."""
    paths = list(paths)
    first = {path: path.split("/")[0].lower() for path in paths if "/" in path}
    found = {path: NAMES[name] for path, name in first.items() if name in NAMES}
    return _all(found, paths, "lie in no folder train, valid or test, as --split-by-folder wants")


def _all(found: dict[str, str], paths: Iterable[str], what: str) -> dict[str, str]:
    wanted = list(paths)
    absent = [path for path in wanted if path not in found]
    if absent:
        raise DataError(f"{len(absent):,} recordings {what} ({first_few(absent)})")
    return {path: found[path] for path in wanted}


def _table(file: Path, column: str, flag: str) -> dict[str, str]:
    """Path -> value of a column of a CSV file. Raises DataError."""
    try:
        with open(file, newline="", encoding="utf-8-sig", errors="surrogateescape") as content:
            rows = list(csv.DictReader(content))
    except (OSError, csv.Error) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise DataError(f"{flag} {file} cannot be read: {why}") from None
    table: dict[str, str] = {}
    for number, row in enumerate(rows, start=2):
        path, value = row.get("path"), row.get(column)
        if path is None or value is None:
            raise DataError(f"{flag} {file}: line {number} has no {column}; its first line must name path and {column}")
        if table.setdefault(path.removeprefix("./"), value.strip()) != value.strip():
            raise DataError(f"{flag} {file}: {path} is listed twice, with different values")
    if not table:
        raise DataError(f"{flag} {file} lists nothing; its first line must name path and {column}")
    return table
