"""One recording: decoded, mixed to mono, resampled, levelled, as 16-bit samples."""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import soxr

from shards.building import ogg

PEAK = 0.95  # full scale is 1
RMS = 0.1  # -20 dBFS
RMS_PEAK_LIMIT = 0.99
SILENCE = 1e-4  # -80 dBFS
BLOCK = 1 << 18  # frames decoded at a time

# What libsndfile notes when a file ends before the length its header promises.
_SHORTER = re.compile(r"^ *(?:data|riff|SSND|Data Size) *: *(\d+) \(should be (\d+)\)", re.MULTILINE)
_COUNT_DIFFERS = re.compile(r"Calculated frame count (\d+) does not match value from .* of (\d+)")
_UNKNOWN_LENGTH = 0x7FFF0000  # encoders that write to a pipe promise this much or more


class RecordingError(Exception):
    """Why a file gives no audio, in a few words."""


@dataclass(frozen=True)
class Recording:
    """A decoded recording and its facts."""

    audio: np.ndarray  # int16 [samples], after the gain
    duration_s: float
    rate: int  # Hz, as recorded
    channels: int
    gain_db: float
    peak: float  # of the mono recording before the gain, full scale 1
    rms: float
    note: str

    @property
    def silent(self) -> bool:
        """Whether it never rises above -80 dBFS."""
        return self.peak < SILENCE


def read_recording(path: str | Path, rate: int, level: str) -> Recording:
    """Read a file as mono int16 at ``rate`` Hz.

    ``level`` is ``peak`` (to 0.95 of full scale), ``rms`` (to -20 dBFS, the peak at most 0.99) or ``none``.
    Raises RecordingError with the reason when the file is unreadable, truncated, empty or not finite.
    """
    try:
        with soundfile.SoundFile(path) as file:
            recorded_rate, channels = file.samplerate, file.channels
            check_whole(path, file)
            audio = np.concatenate([*_resampled(file, rate)])
    except RecordingError:
        raise
    except Exception as error:  # soundfile raises many kinds, from TypeError to its own
        raise RecordingError(reason(error)) from None
    if not len(audio):
        raise RecordingError("empty: it has no samples")
    peak = float(max(audio.max(), -audio.min()))
    rms = math.sqrt(float(np.einsum("i,i->", audio, audio, dtype=np.float64)) / len(audio))
    gain = 1.0 if peak < SILENCE else _gain(level, peak, rms)
    note = ""
    if peak < SILENCE:
        note = "silent: never above -80 dBFS"
    elif peak * gain > 1:
        note = f"clipped: its peak is {peak:.2f} of full scale"
    return Recording(
        audio=_to_int16(audio, gain),
        duration_s=len(audio) / rate,
        rate=recorded_rate,
        channels=channels,
        gain_db=20 * math.log10(gain),
        peak=peak,
        rms=rms,
        note=note,
    )


def check_whole(path: str | Path, file: soundfile.SoundFile) -> None:
    """Raise RecordingError when a file is shorter than its own header says."""
    log = file.extra_info
    for found in _SHORTER.finditer(log):
        promised, present = int(found[1]), int(found[2])
        if present + 1 < promised < _UNKNOWN_LENGTH:  # one byte may be padding
            raise RecordingError(f"truncated: {present} of {promised} bytes")
    found = _COUNT_DIFFERS.search(log)
    if found and int(found[1]) < int(found[2]):
        raise RecordingError(f"truncated: {found[1]} of {found[2]} frames")
    if file.format == "OGG" and not ogg.ends_whole(path):
        raise RecordingError("truncated: its last Ogg page is incomplete")


def _resampled(file: soundfile.SoundFile, rate: int) -> Iterator[np.ndarray]:
    """Mono float32 blocks at ``rate`` Hz."""
    resampler = soxr.ResampleStream(file.samplerate, rate, 1, dtype="float32", quality="HQ")
    decoded = 0
    while True:
        block = file.read(BLOCK, dtype="float32", always_2d=True)
        decoded += len(block)
        last = len(block) < BLOCK
        mono = block.mean(axis=1, dtype=np.float32)
        if not np.isfinite(mono).all():
            raise RecordingError("not finite: it has NaN or infinite samples")
        yield mono if file.samplerate == rate else resampler.resample_chunk(mono, last=last)
        if last:
            break
    if decoded < file.frames < 2**62:  # libsndfile's word for an unknown length is 2**63 - 1
        raise RecordingError(f"truncated or corrupt: {decoded} of {file.frames} frames could be decoded")


def _gain(level: str, peak: float, rms: float) -> float:
    if level == "peak":
        return PEAK / peak
    if level == "rms":
        return min(RMS / rms, RMS_PEAK_LIMIT / peak)
    return 1.0


def _to_int16(audio: np.ndarray, gain: float) -> np.ndarray:
    """Scale, round and clip in pieces, so that no second float copy of a long recording is made."""
    result = np.empty(len(audio), np.int16)
    for begin in range(0, len(audio), BLOCK):
        piece = audio[begin : begin + BLOCK] * np.float32(gain * 32768)
        result[begin : begin + BLOCK] = np.clip(np.rint(piece), -32768, 32767)
    return result


def reason(error: Exception) -> str:
    """An exception of soundfile without the path it repeats, as one line."""
    text = str(getattr(error, "error_string", "") or getattr(error, "strerror", "") or error)
    return "unreadable: " + " ".join(text.split()).removeprefix("Error : ").rstrip(".")
