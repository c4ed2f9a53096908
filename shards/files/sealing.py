"""JSON objects that hold a checksum of their other entries."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from shards.files.json_files import canonical_json

OWN = "checksum"  # key of the checksum


def sealed(content: Mapping[str, Any]) -> dict[str, Any]:
    """A JSON object with the checksum of its other entries."""
    return {**content, OWN: own_checksum(content)}


def is_sealed(content: Mapping[str, Any]) -> bool:
    """Whether a JSON object is what was saved; one without a checksum, from an older version, counts as such."""
    return OWN not in content or content[OWN] == own_checksum(content)


def own_checksum(content: Mapping[str, Any]) -> str:
    """SHA-256 of a JSON object without its checksum, whatever the order of its keys and its white space."""
    # Keys that are numbers become text in a file, and then have another order.
    rest = json.loads(json.dumps({key: value for key, value in content.items() if key != OWN}))
    return hashlib.sha256(canonical_json(rest)).hexdigest()
