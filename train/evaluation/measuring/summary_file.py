"""The data of a report, metrics.json and metrics.csv. They may come with a run of somebody else."""

import csv
import hashlib
import io
import json
import math
from pathlib import Path
from typing import Any

from shards.files import MIB, is_number, is_sealed, is_text, is_whole, read_file, read_object, sealed

LIMIT = 256 * MIB  # bytes of each file
CHUNKS = "chunks_sha256"  # key of the checksum of metrics.csv
# Fields that a summary must have, with their types.
NEEDED: dict[str, type] = {
    **dict.fromkeys(("family", "split", "data", "model"), str),
    "chunks": int,
    **dict.fromkeys(("reconstruction", "floors"), dict),
    **dict.fromkeys(("latents", "levels", "recordings"), list),
}
OPTIONAL_TEXTS = ("kind", "run", "representation", "split_fingerprint")


def summary_text(summary: dict[str, Any], chunks: str) -> str:
    """The content of metrics.json, with its checksum and that of metrics.csv, whose content is `chunks`."""
    content = sealed({**summary, CHUNKS: _checksum(chunks.encode(errors="backslashreplace"))})
    return json.dumps(content, indent=1, allow_nan=False) + "\n"


def read_summary(path: Path) -> dict[str, Any]:
    """The content of metrics.json.

    Raises:
        ValueError: when it is damaged, or from another version.
        OSError: when it cannot be read.
    """
    summary = read_object(path, LIMIT)
    if not is_sealed(summary):
        raise ValueError(f"the checksum of {path.name} does not match its content")
    for key, kind in NEEDED.items():
        if not isinstance(summary.get(key), kind):
            raise ValueError(f"no {key!r}")
    if not is_whole(summary["chunks"]) or not all(is_text(summary.get(key, "")) for key in OPTIONAL_TEXTS):
        raise ValueError("a value has the wrong type")
    if not isinstance(sent := summary.get("sent", {}), dict):  # earlier evaluations have none
        raise ValueError("'sent' is not an object")
    if not isinstance(sets := summary.get("sets", {}), dict):  # there are only where there are several
        raise ValueError("'sets' is not an object")
    if not isinstance(channels := summary.get("channels", {}), dict):  # there are only of stereo
        raise ValueError("'channels' is not an object")
    rows = [
        *sent.values(),
        *sets.values(),
        *channels.values(),
        *summary["latents"],
        *summary["levels"],
        *summary["recordings"],
        *summary["floors"].values(),
    ]
    if not all(isinstance(row, dict) for row in rows):
        raise ValueError("a row of a table is not an object")
    if not all(is_text(row.get("path")) for row in summary["recordings"]):
        raise ValueError("a recording has no path")
    check_passages(summary.get("passages", {"rows": []}))
    if not is_text(summary["reconstruction"].get("interval_over", "")):
        raise ValueError("'interval_over' is not text")
    if not is_number(coverage := summary.get("interval_coverage", 0.95)) or not 0 <= coverage <= 1:
        raise ValueError("'interval_coverage' is not a share")
    return summary


def check_passages(found: Any) -> None:
    """Raises ValueError unless `found` holds rows of codes, each with a name and a kind."""
    rows = found.get("rows") if isinstance(found, dict) else None
    if not isinstance(rows, list) or not all(
        isinstance(row, dict) and is_text(row.get("name")) and is_text(row.get("kind")) for row in rows
    ):
        raise ValueError("'passages' has a row that is not that of a code")


def read_chunks(path: Path, checksum: Any = None) -> dict[str, float]:
    """The SI-SDR in dB of each chunk by metrics.csv, by the chunk's name; NaN for silent chunks.

    `checksum` is that in metrics.json, which reports of older versions lack.

    Raises:
        ValueError: when it is damaged, or from another version.
        OSError: when it cannot be read.
    """
    content = read_file(path, limit=LIMIT)
    if checksum is not None and checksum != _checksum(content):
        raise ValueError(f"the checksum of {path.name} does not match its content")
    table = csv.DictReader(io.StringIO(content.decode(), newline=""))
    try:
        rows = [(row["chunk"], row["si_sdr"]) for row in table]
    except (csv.Error, KeyError) as error:
        raise ValueError(f"{path.name}: {error}") from None
    if not all(isinstance(name, str) and isinstance(value, str | None) for name, value in rows):
        raise ValueError(f"{path.name}: a row is too short")
    return {name: float(value) if value else math.nan for name, value in rows}


def _checksum(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
