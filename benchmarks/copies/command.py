"""Make copies of recordings, and count those that the acoustic fingerprints find, and the false alarms."""

import argparse
import io
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile
import soxr
from rich.table import Table

from benchmarks.results import make_console, write_results
from shards.audio.errors import DecodingError
from shards.audio.recording import Decoder
from shards.building.probe import find_files
from shards.copies.matching import matches
from shards.copies.prints import Print, make_print
from shards.splits.units import joined

RATE = 22050


def coded(audio: np.ndarray, form: str, subtype: str, rate: int = RATE) -> np.ndarray:
    """The audio, float32 [n] at RATE, through a codec at another rate and back."""
    content = io.BytesIO()
    with soundfile.SoundFile(content, "w", rate, 1, subtype, format=form) as file:
        moved = audio if rate == RATE else soxr.resample(audio, RATE, rate)
        for begin in range(0, len(moved), 44100):  # the Vorbis encoder of libsndfile fails on long blocks
            file.write(moved[begin : begin + 44100])
    content.seek(0)
    decoded = soundfile.read(content, dtype="float32")[0]
    return decoded if rate == RATE else soxr.resample(decoded, rate, RATE)


KINDS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "one sample less": lambda audio: audio[1:],
    "12 dB less": lambda audio: 0.25 * audio,
    "MP3": lambda audio: coded(audio, "MP3", "MPEG_LAYER_III"),
    "Ogg Vorbis at 44.1 kHz": lambda audio: coded(audio, "OGG", "VORBIS", 44100),
    "at 16 kHz": lambda audio: soxr.resample(soxr.resample(audio, RATE, 16000), 16000, RATE),
    "8 bits": lambda audio: np.rint(127 * audio) / 127,
    "50 ms of silence before": lambda audio: np.concatenate([np.zeros(RATE // 20, np.float32), audio]),
    "a tenth less at the end": lambda audio: audio[: len(audio) - len(audio) // 10],
    "a tenth less at the beginning": lambda audio: audio[len(audio) // 10 :],
}


def read(folder: Path, most: int, seconds: float) -> tuple[list[np.ndarray], float]:
    """The recordings of a folder, float32 [n] each at its level, without silent ones, and the CPU seconds of that."""
    found: list[np.ndarray] = []
    start = time.process_time()
    with tempfile.TemporaryDirectory() as scratch:
        decoder = Decoder(RATE, "peak", Path(scratch))
        for path in find_files(folder)[0]:
            try:
                with decoder.read(folder / path) as recording:
                    audio = np.concatenate([block / np.float32(32768) for block in recording.audio()])
                    if not recording.silent:
                        found.append(audio[: int(seconds * RATE)])
            except DecodingError:
                continue
            if len(found) == most:
                break
    return found, time.process_time() - start


def as_integers(audio: np.ndarray) -> np.ndarray:
    """Audio, float32 [n], as a build has it: int16 at its level."""
    return np.rint(audio / max(float(np.abs(audio).max()), 1e-9) * 31000).astype("<i2")


def print_of(row: int, samples: np.ndarray) -> Print:
    """The fingerprint of int16 [n]."""
    return make_print(row, lambda begin, count: samples[begin : begin + count], len(samples), RATE)


def main(arguments: list[str] | None = None) -> int:
    """Measures one folder; returns 0."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks copies", description=__doc__)
    parser.add_argument("folder", type=Path, help="recordings that are not copies of each other")
    parser.add_argument("--most", type=int, default=500, help="recordings that are read")
    parser.add_argument("--seconds", type=float, default=300, help="of each that are used")
    parser.add_argument("--json", type=Path, help="file for the figures")
    given = parser.parse_args(arguments)
    recordings, decoding = read(given.folder, given.most, given.seconds)
    lengths = [len(audio) / RATE for audio in recordings]
    whole = [as_integers(audio) for audio in recordings]
    start = time.process_time()
    prints = [print_of(row, samples) for row, samples in enumerate(whole)]
    cost = time.process_time() - start
    alarms = matches(prints, lengths)
    print(f"{len(recordings)} recordings of {given.folder}, {sum(lengths) / 3600:.2f} h")
    table = Table()
    table.add_column("copies")
    table.add_column("found", justify="right")
    found = {}
    for kind, change in KINDS.items():
        copies = [as_integers(change(audio).astype(np.float32)) for audio in recordings]
        more = [print_of(row, audio) for row, audio in enumerate(copies, start=len(recordings))]
        lead = joined(sorted(matches([*prints, *more], [*lengths, *(len(audio) / RATE for audio in copies)])))
        right = sum(lead.get(row, -1) == lead.get(row + len(recordings), -2) for row in range(len(recordings)))
        found[kind] = right / max(1, len(recordings))
        table.add_row(kind, f"{100 * found[kind]:.1f} %")
    console = make_console()
    console.print(table)
    involved = len({row for pair in alarms for row in pair})
    console.print(f"originals that are taken for copies of each other: {involved} in {len(alarms)} pairs")
    console.print(f"fingerprints: {cost:.2f} s of CPU, {cost / max(decoding, 1e-9):.3f} of decoding the same files")
    if given.json:
        content = {"found": found, "pairs": len(alarms), "involved": involved, "cost": cost, "decoding": decoding}
        write_results(given.json, {"copies": content | {"recordings": len(recordings), "hours": sum(lengths) / 3600}})
    return 0
