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
        groups = table_of(Path(how), "group", "--group-by")
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
    found = table_of(Path(file), "split", "--splits")
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


def table_of(file: Path, column: str, flag: str, strict: bool = False) -> dict[str, str]:
    """Path -> value of a column of a CSV file.

    Args:
        file: The file; its first line names the columns `path` and `column`.
        column: The column.
        flag: What names the file on the command line, for messages.
        strict: Refuse rows with more values than columns, such as a path with a comma that is not quoted.

    Raises:
        DataError: when the file cannot be read, a row is malformed, or a path is listed twice with different values.
    """
    table: dict[str, str] = {}
    line = 0
    try:
        with open(file, newline="", encoding="utf-8-sig", errors="surrogateescape") as content:
            rows = csv.DictReader(content, strict=strict)
            for row in rows:
                line = rows.line_num
                path, value, where = row.get("path"), row.get(column), f"{flag} {file}: line {line}"
                if path is None or value is None:
                    raise DataError(f"{where} has no {column}; its first line must name path and {column}")
                if strict and None in row:
                    raise DataError(f"{where} has more values than columns; put a value with a comma in quotes")
                if table.setdefault(path.removeprefix("./"), value.strip()) != value.strip():
                    raise DataError(f"{flag} {file}: {path} is listed twice, with different values")
    except (OSError, csv.Error) as error:
        why = error.strerror if isinstance(error, OSError) else f"after line {line}, {error}"
        raise DataError(f"{flag} {file} cannot be read: {why}") from None
    if not table:
        raise DataError(f"{flag} {file} lists nothing; its first line must name path and {column}")
    return table
