"""The labels of recordings: the names of their folders, or a column of a CSV file."""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import xxhash

from shards.files import canonical_json
from shards.manifest import Manifest, Source
from shards.splits.given import table_of
from shards.text import printable
from train.errors import TrainError

FOLDER = "folder"


@dataclass(frozen=True)
class Labels:
    """The labels of the recordings of a data set.

    Attributes:
        by_row: The label of each recording, by its row in the manifest; empty for none.
        note: What a user should know: recordings and lines of the table without a partner. Empty if there are none.
    """

    by_row: dict[int, str]
    note: str = ""

    @cached_property
    def names(self) -> list[str]:
        """The names of the labels, sorted."""
        return sorted({*self.by_row.values()} - {""})

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {"": 0} | {name: number for number, name in enumerate(self.names, start=1)}

    @cached_property
    def fingerprint(self) -> str:
        """A hash of who has which label, 32 hexadecimal digits."""
        return xxhash.xxh3_128_hexdigest(canonical_json(sorted(self.by_row.items())))

    def number(self, row: int) -> int:
        """What records of a recording carry: the number of its label from 1 on, or 0."""
        return self._numbers[self.by_row.get(row, "")]

    def counts(self, rows: Iterable[int]) -> list[int]:
        """How many of these recordings have no label, and how many have each label."""
        found = Counter(self.number(row) for row in rows)
        return [found[number] for number in range(len(self.names) + 1)]


def labels_of(manifest: Manifest, rows: Iterable[int], how: str) -> Labels:
    """Finds the labels of recordings.

    A row that stands for several short recordings has their label if it is the same for all of them.

    Args:
        manifest: Of the data set.
        rows: The rows of the recordings.
        how: `folder` for the first folder of a recording's path, or a CSV file with the columns `path` and `label`.

    Raises:
        TrainError: if it is neither, or no recording has a label.
        DataError: if the file cannot be read, or a row of it is malformed.
    """
    files = {row: _files(manifest, row) for row in rows}
    paths = {path for own in files.values() for path in own}
    if how == FOLDER:
        label_of = _by_folder(manifest)
        parts = [_count(sum(not label_of(path) for path in paths), len(paths), "recordings are in no folder")]
    elif how.lower().endswith(".csv"):
        table = table_of(Path(how), "label", "--labels", strict=True)
        label_of = _by_table(table)
        known = {source.path for source in manifest.sources}
        parts = [
            _count(len(table.keys() - known), len(table), "paths of the table are not in the data"),
            _count(sum(not table.get(path) for path in paths), len(paths), "recordings have no label in the table"),
        ]
    else:
        raise TrainError(f"--labels {how}: give `{FOLDER}`, or a CSV file with the columns path and label")
    found = {row: {label_of(path) for path in own} for row, own in files.items()}
    mixed = sum(len(labels) > 1 for labels in found.values())
    parts.append(_count(mixed, len(found), "rows of joined short recordings have several labels and count as none"))
    labels = Labels({row: own.pop() if len(own) == 1 else "" for row, own in found.items()}, _joined(parts))
    if not labels.names:
        raise TrainError(f"--labels {how}: no recording has a label" + (f" ({labels.note})" if labels.note else ""))
    return labels


def _files(manifest: Manifest, row: int) -> list[str]:
    """The paths of the recordings that a row stands for."""
    source: Source = manifest.sources[row]
    members = source.members
    return [source.path] if members is None else [manifest.sources[one].path for one, _, _ in members]


def _by_folder(manifest: Manifest) -> Callable[[str], str]:
    # Where folders give the splits, the first one is `train`, `valid` or `test`.
    first = 1 if manifest.settings.get("split_by_folder") is True else 0

    def label_of(path: str) -> str:
        folders = path.split("/")[first:-1]
        return folders[0] if folders else ""

    return label_of


def _by_table(table: dict[str, str]) -> Callable[[str], str]:
    return lambda path: table.get(path, "")


def _count(count: int, total: int, what: str) -> str:
    return f"{count:,} of {total:,} {what}" if count else ""


def _joined(parts: list[str]) -> str:
    return printable("; ".join(part for part in parts if part))
