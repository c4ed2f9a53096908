"""The announcement of length in MP3 files: the Xing or Info frame, written by encoders that could seek back."""

import os
from pathlib import Path
from typing import BinaryIO

_RATES = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}  # by version
_SEARCHED = 1 << 14  # bytes behind the tag in which the first frame begins


def look(path: str | Path) -> tuple[bool, float | None]:
    """Whether a file holds MPEG audio (MP1, MP2, MP3), behind a tag or at once; and the seconds that it announces.

    The seconds are None where it announces none. Raises OSError.
    """
    with open(os.fsencode(path), "rb") as file:
        data = _behind_tag(file)
    return (True, announced_seconds(data)) if is_header(data[:4]) else (False, None)


def is_header(header: bytes) -> bool:
    """Whether four bytes begin a frame of MPEG audio."""
    if len(header) < 4 or header[0] != 0xFF or header[1] & 0xE0 != 0xE0:
        return False
    version, layer, bitrate, rate = header[1] >> 3 & 3, header[1] >> 1 & 3, header[2] >> 4, header[2] >> 2 & 3
    return version != 1 and layer != 0 and bitrate not in (0, 15) and rate != 3


def announced_seconds(data: bytes) -> float | None:
    """The length that MP3 audio announces in its first frame; None when it announces none."""
    for mark in (b"Xing", b"Info"):
        place = data.find(mark)
        if place >= 0 and place + 12 <= len(data) and data[place + 7] & 1:
            frame = data.rfind(b"\xff", 0, max(0, place - 4))
            if frame < 0:
                continue
            header = data[frame : frame + 4]
            version, rate = header[1] >> 3 & 3, header[2] >> 2 & 3
            if version in _RATES and rate < 3:
                frames = int.from_bytes(data[place + 8 : place + 12], "big")
                return frames * (1152 if version == 3 else 576) / _RATES[version][rate]
    return None


def _behind_tag(file: BinaryIO) -> bytes:
    """The beginning of what follows an ID3v2 tag."""
    head = file.read(10)
    tagged = head[:3] == b"ID3" and len(head) == 10
    file.seek(10 + sum((byte & 0x7F) << 7 * (3 - place) for place, byte in enumerate(head[6:10])) if tagged else 0)
    return file.read(_SEARCHED)
