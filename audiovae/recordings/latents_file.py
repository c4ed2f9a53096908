"""Files of latents: safetensors, whose metadata hold everything else that decoding needs.

Real latents are one tensor per level, `latents.0` (the finest), `latents.1`, ..., each [chunks, channels, frames] in
float32 or float16. Codes are one uint8 tensor `codes`: the bits of all codes in the order of [chunks, codebooks,
frames], each code with its highest bit first, padded with zeros to a whole byte.

The metadata are strings: `format`, `family`, `model` (fingerprint), `rate` (Hz), `samples` (chunk length), `length` (of
the recording, in samples), `fade` (samples that neighbouring chunks share), `gain`, `code_size` (0 for real latents)
and, for codes, `shape` ("chunks codebooks frames").
"""

import math
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from audiovae.errors import ModelError
from audiovae.inputs import check_input
from audiovae.output import check_output, write_whole
from audiovae.recordings.latents import DTYPES, CodedRecording, code_bits
from audiovae.recordings.overlap_add import MIN_GAIN, MOST_GAIN, count_chunks
from shards.files import why_unreadable

FORMAT = "audiovae latents 1"
MAX_CODES = 2**31
# Codes packed per part: a multiple of 8, so that every part ends at a whole byte.
AT_ONCE = 1 << 16
NUMBERS = ("rate", "samples", "length", "fade", "code_size")


def write_latents(path: str | Path, coded: CodedRecording) -> None:
    """Writes the latents of a recording; the write is atomic.

    Raises:
        ModelError: if the file cannot be written, or its name does not end in .safetensors.
    """
    check_latents_file(path)
    about = {"format": FORMAT, "family": coded.family, "model": coded.model, "gain": repr(coded.gain)}
    about |= {name: str(getattr(coded, name)) for name in NUMBERS}
    if coded.code_size:
        codes = coded.latents[0]
        about["shape"] = " ".join(map(str, codes.shape))
        tensors = {"codes": torch.from_numpy(pack(codes.numpy(), code_bits(coded.code_size)))}
    else:
        tensors = {f"latents.{i}": level.contiguous() for i, level in enumerate(coded.latents)}
    write_whole(path, save(tensors, about))


def read_latents(path: str | Path) -> CodedRecording:
    """Reads the latents of a recording.

    Raises:
        ModelError: if the file is not one of `write_latents`, or is damaged.
    """
    check_input(path, "latents")
    try:
        with safe_open(path, "pt") as file:
            about = file.metadata() or {}
            if about.get("format") != FORMAT:
                raise ModelError(
                    f"{path}: not a latents file of this version; make one with: python -m audiovae encode"
                )
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
        coded = _coded(about, tensors)
    except (SafetensorError, OSError, ValueError, KeyError, OverflowError) as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else why_unreadable(path, error)
        raise ModelError(f"{path}: cannot be read as latents ({reason}); encode the recording again") from None
    return coded


def check_latents_file(path: str | Path) -> None:
    """Raises ModelError if the name of an output file does not end in .safetensors, or it cannot be written there."""
    if Path(path).suffix != ".safetensors":
        raise ModelError(f"{path}: the name must end in .safetensors (exact latents) or .coded (few bits)")
    check_output(path)


def _coded(about: dict[str, str], tensors: dict[str, Tensor]) -> CodedRecording:
    numbers = {name: int(about[name]) for name in NUMBERS}
    gain = float(about["gain"])
    if (
        min(numbers["rate"], numbers["samples"], numbers["length"]) < 1
        or not 0 <= 2 * numbers["fade"] <= numbers["samples"]
    ):
        raise ValueError("impossible lengths")
    if not MIN_GAIN <= gain <= MOST_GAIN or not 0 <= numbers["code_size"] <= MAX_CODES:
        raise ValueError("impossible gain or code size")
    if numbers["code_size"]:
        shape = tuple(int(size) for size in about["shape"].split())
        if tensors["codes"].dtype != torch.uint8:
            raise ValueError("codes are not bytes")
        latents = [torch.from_numpy(unpack(tensors["codes"].numpy(), code_bits(numbers["code_size"]), shape))]
        if latents[0].numel() and int(latents[0].max()) >= numbers["code_size"]:
            raise ValueError("a code exceeds the size of its codebook")
    else:
        latents = [tensors[f"latents.{i}"] for i in range(len(tensors))]
        if not all(level.dtype in DTYPES.values() and bool(level.isfinite().all()) for level in latents):
            raise ValueError("values are not finite floats")
    chunks = count_chunks(numbers["length"], numbers["samples"], numbers["fade"])
    if not latents or any(level.ndim != 3 or len(level) != chunks for level in latents):
        raise ValueError(f"its length needs {chunks} chunks")
    return CodedRecording(latents=latents, gain=gain, family=about["family"], model=about["model"], **numbers)


def pack(codes: np.ndarray, bits: int) -> np.ndarray:
    """Packs codes below 2^bits, highest bit first: int64 of any shape -> uint8 [ceil(n * bits / 8)]."""
    places = np.arange(bits - 1, -1, -1, dtype=np.uint32)
    flat = codes.reshape(-1)
    parts = [np.zeros(0, np.uint8)]
    for first in range(0, len(flat), AT_ONCE):
        part = flat[first : first + AT_ONCE].astype(np.uint32)
        parts.append(np.packbits((part[:, None] >> places & 1).astype(np.uint8)))
    return np.concatenate(parts)


def unpack(packed: np.ndarray, bits: int, shape: tuple[int, ...]) -> np.ndarray:
    """The inverse of `pack`: uint8 -> int64 of `shape`.

    Raises:
        ValueError: if the number of bytes does not fit the shape.
    """
    count = math.prod(shape)
    if min(shape, default=0) < 0 or packed.dtype != np.uint8 or packed.shape != (-(-count * bits // 8),):
        raise ValueError(f"{packed.size} bytes of codes are not {list(shape)} codes of {bits} bits")
    places = np.int64(1) << np.arange(bits - 1, -1, -1, dtype=np.int64)
    values = np.empty(count, np.int64)
    for first in range(0, count, AT_ONCE):
        part = values[first : first + AT_ONCE]
        bytes_of_part = packed[first * bits // 8 :][: -(-len(part) * bits // 8)]
        part[:] = np.unpackbits(bytes_of_part, count=len(part) * bits).reshape(-1, bits) @ places
    return values.reshape(shape)
