"""The discriminator as a file of a finished model or a checkpoint: its weights, what they are, and a checksum."""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from shards.files import MIB, open_regular

DISCRIMINATOR_FILE = "discriminator.safetensors"
# The key of what the file says of its weights.
ENTRY = "discriminator"
# A larger file is refused before it is read.
LARGEST = 4096 * MIB


def write_discriminator(folder: Path, weights: Mapping[str, Tensor], shape: Mapping[str, Any]) -> None:
    """Writes the file into a folder that another function makes complete or absent.

    Args:
        folder: Where to write.
        weights: State dict of the discriminator.
        shape: Its settings: windows, periods and filters.
    """
    tensors = {name: value.contiguous() for name, value in weights.items()}
    # One entry, as safetensors writes several in any order, and equal states must be equal files.
    about = {"shape": dict(shape), "sha256": digest_of(tensors)}
    save_file(tensors, folder / DISCRIMINATOR_FILE, {ENTRY: json.dumps(about, sort_keys=True)})


def read_discriminator(folder: Path) -> dict[str, Tensor] | None:
    """The weights in a folder's file, on the CPU; None if there is no file.

    Raises:
        ValueError: if the file is damaged or holds something else.
        OSError: if it cannot be read.
    """
    file = folder / DISCRIMINATOR_FILE
    if not os.path.lexists(file):
        return None
    with open(open_regular(file, follow_links=True), "rb") as opened:
        if (size := opened.seek(0, 2)) > LARGEST:
            raise ValueError(f"{file}: {size:,} bytes are more than a discriminator has")
    try:
        with safe_open(file, "pt", device="cpu") as content:
            entry = (content.metadata() or {}).get(ENTRY, "")
            tensors = {name: content.get_tensor(name).clone() for name in content.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(f"{file}: damaged ({str(error).splitlines()[0]})") from None
    if f'"sha256": "{digest_of(tensors)}"' not in entry:
        raise ValueError(f"{file}: damaged (its checksum does not match its content)")
    if not all(value.dtype == torch.float32 and value.isfinite().all() for value in tensors.values()):
        raise ValueError(f"{file}: not a discriminator (its values are not all finite float32 numbers)")
    return tensors


def digest_of(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 of names, types, shapes and values."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        value = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {value.dtype} {[*value.shape]}\n".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
