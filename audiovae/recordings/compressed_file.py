"""Files of compressed recordings, NAME.coded.

A file is the line `audiovae coded 1`, the header's length (4 bytes), the header, its CRC-32, the payload, its CRC-32.
All numbers are little-endian. The header holds, without gaps: fingerprint of the model (16 bytes), family (8, ASCII,
filled with zeros), rate in Hz (4), length of the recording in samples (8), overlap of chunks in samples or -1 (4,
signed), gain (8, IEEE double), bytes of payload (8), levels (1), and for each level its channels (4) and the step index
of each channel (1).
"""

import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from audiovae.errors import ModelError
from audiovae.inputs import check_input
from audiovae.output import check_output, write_whole
from audiovae.recordings.overlap_add import MIN_GAIN, MOST_GAIN
from shards.audio.rates import HIGHEST, LOWEST
from shards.files import read_file, read_start, why_unreadable

SUFFIX = ".coded"
MAGIC = b"audiovae coded 1\n"
FIXED = struct.Struct("<16s8sIqidQB")
LARGEST_HEADER = 1 << 20
LARGEST_FILE = 1 << 31
# Samples of a recording, 27 hours at 22,050 Hz. Silence needs nearly no bytes, so the size of the file bounds nothing.
LONGEST = 1 << 31


@dataclass
class CompressedRecording:
    """A recording as coded latents of a model.

    Attributes:
        payload: The coded latents; `decompress_recording` reads them.
        steps: Index of the step of each channel, uint8 [channels] for each level, finest first; empty for codes.
        length: Length of the recording in samples at `rate`.
        rate: Sample rate in Hz.
        fade: Samples that neighbouring chunks share; -1 for a recording in one pass.
        gain: Factor that brought the recording to the level of the training data.
        family: Family of the model.
        model: Fingerprint of the model; only this model can decode.
    """

    payload: bytes
    steps: list[np.ndarray]
    length: int
    rate: int
    fade: int
    gain: float
    family: str
    model: str

    @property
    def seconds(self) -> float:
        """Length of the recording in seconds."""
        return self.length / self.rate

    @property
    def bits_per_second(self) -> float:
        """Bit rate of the whole file."""
        return 8 * len(to_bytes(self)) / self.seconds


def to_bytes(coded: CompressedRecording) -> bytes:
    """The content of a file."""
    header = FIXED.pack(
        bytes.fromhex(coded.model),
        coded.family.encode(),
        coded.rate,
        coded.length,
        coded.fade,
        coded.gain,
        len(coded.payload),
        len(coded.steps),
    )
    for steps in coded.steps:
        header += struct.pack("<I", len(steps)) + steps.astype(np.uint8).tobytes()
    sizes = struct.pack("<I", len(header))
    return b"".join((MAGIC, sizes, header, _checksum(header), coded.payload, _checksum(coded.payload)))


def from_bytes(content: bytes) -> CompressedRecording:
    """The inverse of `to_bytes`.

    Raises:
        ValueError: if the content is not whole or not possible; the message says why.
    """
    if not content.startswith(MAGIC):
        raise ValueError("it is not a compressed recording of this version")
    at = len(MAGIC)
    size = int.from_bytes(content[at : at + 4], "little")
    header = content[at + 4 : at + 4 + size]
    after = content[at + 4 + size :]
    if not FIXED.size <= size <= LARGEST_HEADER or after[:4] != _checksum(header):
        raise ValueError("its header is damaged")
    fingerprint, family, rate, length, fade, gain, payload_size, levels = FIXED.unpack_from(header)
    payload = after[4:-4]
    if len(payload) != payload_size or after[-4:] != _checksum(payload):
        raise ValueError("it is damaged or not whole")
    steps = []
    place = FIXED.size
    for _ in range(levels):
        channels = int.from_bytes(header[place : place + 4], "little")
        steps.append(np.frombuffer(header[place + 4 : place + 4 + channels], np.uint8))
        place += 4 + channels
    if place != size:
        raise ValueError("its header has another length than its levels need")
    if not LOWEST <= rate <= HIGHEST or not 1 <= length <= LONGEST:
        raise ValueError("impossible rate or length")
    name = family.rstrip(b"\0").decode("ascii")
    if not MIN_GAIN <= gain <= MOST_GAIN or fade < -1 or not name.isalnum():
        raise ValueError("impossible gain, overlap or family")
    return CompressedRecording(payload, steps, length, rate, fade, gain, name, fingerprint.hex())


def write_compressed(path: str | Path, coded: CompressedRecording) -> None:
    """Writes a compressed recording; the write is atomic.

    Raises:
        ModelError: if the file cannot be written, or its name does not end in .coded.
    """
    check_compressed_file(path)
    write_whole(path, to_bytes(coded))


def read_compressed(path: str | Path) -> CompressedRecording:
    """Reads a compressed recording.

    Raises:
        ModelError: if the file is not one of `write_compressed`, or is damaged.
    """
    check_input(path, "latents")
    try:
        return from_bytes(read_file(Path(path), follow_links=True, limit=LARGEST_FILE))
    except (OSError, ValueError) as error:
        raise ModelError(
            f"{path}: cannot be read as latents ({why_unreadable(path, error)}); encode the recording again"
        ) from None


def is_compressed(path: str | Path) -> bool:
    """Whether a file begins as `write_compressed` begins it, or has its suffix; a file that cannot be read may not."""
    try:
        return Path(path).suffix == SUFFIX or read_start(Path(path), len(MAGIC)) == MAGIC
    except OSError:
        return False


def check_compressed_file(path: str | Path) -> None:
    """Raises ModelError if the name of an output file does not end in .coded, or it cannot be written there."""
    if Path(path).suffix != SUFFIX:
        raise ModelError(f"{path}: a compressed recording; the name must end in {SUFFIX}")
    check_output(path)


def _checksum(content: bytes) -> bytes:
    return zlib.crc32(content).to_bytes(4, "little")
