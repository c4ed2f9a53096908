"""What a weights file says that it holds, compared with what a model needs, before memory is taken for either."""

import math
import struct
from collections.abc import Mapping
from pathlib import Path

import torch

from audiovae.saved.kinds import build_any
from shards.files import MIB, is_whole, parse_json, read_start

HEADER = 16 * MIB  # bytes of the largest header
# Values of buffers that a model may have and its file may lack, as another version wrote it.
SPARE = 1 << 20


def shapes_of_model(
    family: str, config: object, samples: int, rate: int, audio_channels: int = 1
) -> dict[str, tuple[int, ...]]:
    """The shape of each tensor of a model, computed without allocating any.

    Raises:
        ValueError: if there is no such model.
    """
    try:
        with torch.device("meta"):
            model = build_any(family, config, samples, rate, audio_channels)
        return {name: tuple(value.shape) for name, value in model.state_dict().items()}
    except RuntimeError:  # a product of sizes that overflows
        raise ValueError("the model is too large") from None


def largest_file(shapes: Mapping[str, tuple[int, ...]]) -> int:
    """An upper bound on the bytes of a file with tensors of these shapes."""
    return 8 + HEADER + 8 * (SPARE + _count(shapes))


def shapes_of_file(file: Path) -> dict[str, tuple[int, ...]] | None:
    """The shape of each tensor of a safetensors file by its header; None if it has no sound header.

    Raises:
        OSError: if it cannot be read.
    """
    start = read_start(file, 8 + HEADER)
    length = struct.unpack("<Q", start[:8])[0] if len(start) >= 8 else 0
    if not 2 <= length <= HEADER:
        return None
    try:
        header = parse_json(start[8 : 8 + length])
        entries = {name: entry["shape"] for name, entry in header.items() if name != "__metadata__"}
        if all(map(is_whole, (size for shape in entries.values() for size in shape))):
            return {name: tuple(shape) for name, shape in entries.items()}
    except (ValueError, TypeError, KeyError, AttributeError):
        pass
    return None


def fits(there: Mapping[str, tuple[int, ...]], needed: Mapping[str, tuple[int, ...]]) -> bool:
    """Whether a file's tensors have the shapes that a model needs; small ones that it lacks may have defaults."""
    if any(shape != needed[name] for name, shape in there.items() if name in needed):
        return False
    return _count({name: shape for name, shape in needed.items() if name not in there}) <= SPARE


def _count(shapes: Mapping[str, tuple[int, ...]]) -> int:
    return sum(math.prod(shape) for shape in shapes.values())
