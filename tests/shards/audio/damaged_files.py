"""Recordings that were cut, joined and damaged at random, of eight containers; and what both decoders find in them."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from shards.audio.decoding import decode
from shards.audio.errors import DecodingError
from shards.audio.ffmpeg import open_ffmpeg
from shards.audio.libsndfile import open_sndfile
from tests.shards.awkward import encoded, tone, written

RATE = 24000  # one that Opus has, too
LENGTHS = (2.0, 2.9)  # seconds
CONTAINERS = {
    "wav": ("WAV", "PCM_16"),
    "aiff": ("AIFF", "PCM_16"),
    "flac": ("FLAC", "PCM_16"),
    "ogg": ("OGG", "VORBIS"),
    "opus": ("OGG", "OPUS"),
    "mp3": ("MP3", "MPEG_LAYER_III"),
    "m4a": None,
    "w64": ("W64", "PCM_24"),
}
HEAD = 400  # bytes in which headers are damaged


def whole_files(folder: Path) -> dict[str, list[bytes]]:
    """Whole recordings of each container, one of each length."""
    made: dict[str, list[bytes]] = {}
    for name, form in CONTAINERS.items():
        for seed, seconds in enumerate(LENGTHS):
            audio = tone(seconds, RATE, 2 if form is None else 1, seed)
            if form is None:
                encoded(folder / "whole.m4a", audio, "aac", RATE)
                content = (folder / "whole.m4a").read_bytes()
            else:
                content = written(audio, *form, RATE)
            made.setdefault(name, []).append(content)
    return made


@dataclass
class Made:
    """A file with something wrong in it.

    Attributes:
        content: Its bytes.
        kinds: What was done to it.
        places: Where, in bytes.
        seconds: The length of the recording that it was made from.
    """

    content: bytes
    kinds: list[str]
    places: list[int]
    seconds: float


def damaged(rng: np.random.Generator, wholes: list[bytes]) -> Made:
    """A file that was cut, joined or damaged."""
    number = int(rng.integers(len(wholes)))
    content = bytearray(wholes[number])
    made = Made(b"", [], [], LENGTHS[number])
    for kind in rng.choice(["cut", "join", "header", "hole", "noise", "grow"], rng.integers(1, 3), replace=False):
        place, size = int(rng.integers(len(content))), int(rng.integers(1, 1 + len(content) // 4))
        match kind:
            case "cut":
                del content[place:]
            case "join":
                content += wholes[rng.integers(len(wholes))]
            case "header":
                begin = 0 if rng.random() < 0.8 else max(0, len(content) - HEAD)  # M4A has its index at the end
                for _ in range(rng.integers(1, 4)):
                    at = begin + int(rng.integers(min(HEAD, len(content)) or 1))
                    if at < len(content):
                        content[at] = rng.integers(256)
            case "hole":
                del content[place : place + size]
            case "noise":
                content[place : place + size] = rng.bytes(len(content[place : place + size]))
            case "grow":
                content += bytes(size) if rng.random() < 0.5 else rng.bytes(size)
        made.kinds.append(str(kind))
        made.places.append(place)
    made.content = bytes(content)
    return made


@dataclass
class Outcome:
    """What is made of a file: seconds that are kept and in the samples, the note or the reason."""

    kept: float
    note: str
    reason: str


class Counted:
    """An output that counts."""

    samples = 0

    def add(self, audio: np.ndarray) -> None:
        self.samples += len(audio)

    def restart(self) -> None:
        self.samples = 0


def outcome(path: Path) -> Outcome:
    """What `decode` makes of a file."""
    output = Counted()
    try:
        facts = decode(path, 16000, output)
    except DecodingError as error:
        return Outcome(0.0, "", str(error))
    assert abs(output.samples / 16000 - facts.seconds) < 0.02, "the seconds are those of the samples"
    return Outcome(facts.seconds, facts.note, "")


def found_by_each(path: Path) -> tuple[float, float]:
    """Seconds that libsndfile and FFmpeg find, each alone."""
    one = other = 0.0
    try:
        with open_sndfile(path) as file:
            for block in file.blocks():
                one += len(block) / file.rate
    except DecodingError:
        pass
    try:
        with open_ffmpeg(path) as found:
            for block, rate in found.blocks():
                other += len(block) / rate
    except DecodingError:
        pass
    return one, other
