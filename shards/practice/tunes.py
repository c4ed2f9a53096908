"""Practice recordings: small tunes to try everything with before the real recordings come.

All play on the same instruments, so that a model trained on most of them can reconstruct the others.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import soxr

from shards.audio import ogg
from shards.errors import DataError
from shards.practice.instruments import RATE, bell, drum, pluck, voice
from shards.progress import progress

# Rate in Hz, channels, ending, subtype: what a folder of recordings may hold.
_BLOCK = 1 << 16  # frames; libsndfile's Vorbis encoder writes nothing, or crashes, where it gets minutes at once
_FILES = [
    (44100, 2, "wav", "PCM_16"),
    (48000, 2, "flac", "PCM_24"),
    (22050, 1, "ogg", "VORBIS"),
    (32000, 2, "mp3", "MPEG_LAYER_III"),
    (8000, 1, "wav", "PCM_16"),
    (44100, 2, "aiff", "PCM_16"),
    (48000, 1, "wav", "PCM_24"),
    (44100, 2, "mp3", "MPEG_LAYER_III"),
    (32000, 1, "flac", "PCM_16"),
    (22050, 2, "wav", "PCM_16"),
    (48000, 2, "ogg", "VORBIS"),
    (44100, 1, "flac", "PCM_16"),
]
_MINOR = [0, 2, 3, 5, 7, 8, 10]  # semitones above the root
_PENTATONIC = [0, 3, 5, 7, 10]
_PROGRESSIONS = [(0, 5, 2, 6), (0, 3, 5, 4), (0, 6, 5, 6), (0, 2, 3, 6)]  # steps of the minor scale


def practice(out_dir: Path, minutes: float = 4.0, seed: int = 0, channels: int = 1) -> None:
    """Write a dozen short pieces of music in many formats, to try everything without recordings.

    Args:
        out_dir: Folder to write the recordings to.
        minutes: Length of all of them together.
        seed: Another seed plays other tunes.
        channels: Least number of channels of each: 1, where some are mono, or 2, where all are stereo.
    """
    if not 0.2 <= minutes <= 600:
        raise DataError("--minutes must be between 0.2 and 600")
    if channels not in (1, 2):
        raise DataError(f"--channels {channels}: give 1, where some recordings are mono, or 2, where all are stereo")
    out_dir.mkdir(parents=True, exist_ok=True)
    shares = np.random.default_rng([seed, len(_FILES)]).uniform(0.7, 1.3, len(_FILES))
    lengths = 60 * minutes * shares / shares.sum()
    with progress("playing", len(_FILES)) as update:
        for number, ((rate, own, ending, subtype), seconds) in enumerate(zip(_FILES, lengths, strict=True)):
            audio = _play(np.random.default_rng([seed, number]), seconds)
            sides = max(own, channels)
            audio = audio if sides == 2 else audio.mean(axis=1)
            audio = soxr.resample(audio, RATE, rate, "HQ")
            audio *= (0.5 + 0.35 * number / len(_FILES)) / np.abs(audio).max()
            path = out_dir / f"practice-{number:02d}.{ending}"
            with soundfile.SoundFile(path, "w", rate, sides, subtype) as file:
                for begin in range(0, len(audio), _BLOCK):
                    file.write(audio[begin : begin + _BLOCK])
            if ending == "ogg":  # for the same bytes each time, and so the same split
                path.write_bytes(ogg.with_serial(path.read_bytes(), number))
            update(number + 1)
    print(f"{out_dir}: {len(_FILES)} recordings, {minutes:g} minutes")


@dataclass
class _Mix:
    """A stereo recording in the making, float32 [n, 2]."""

    audio: np.ndarray

    def add(self, tone: np.ndarray, at_s: float, gain: float, pan: float) -> None:
        """Mix in a tone, float32 [m], at a place from -1 (left) to 1 (right); its end may be cut."""
        begin = int(at_s * RATE)
        room = self.audio[begin : begin + len(tone)]
        sides = np.array([1 - pan, 1 + pan], np.float32) * np.float32(gain / 2)
        room += tone[: len(room), None] * sides


def _play(rng: np.random.Generator, seconds: float) -> np.ndarray:
    """One piece, float32 [n, 2] at 44,100 Hz: bars of four beats over four chords."""
    mix = _Mix(np.zeros((int(seconds * RATE), 2), np.float32))
    beat = 60 / rng.uniform(84, 126)
    root = int(rng.integers(45, 55))  # MIDI number
    chords = _PROGRESSIONS[rng.integers(len(_PROGRESSIONS))]
    melody = 5
    for bar in range(int(seconds / (4 * beat)) + 1):
        at = 4 * beat * bar
        chord = chords[bar % 4]
        _accompany(mix, rng, at, beat, root, chord)
        for step in _rhythm(rng):
            melody = int(np.clip(melody + rng.integers(-2, 3), 0, 11))
            hertz = _hertz(root + 12 + 12 * (melody // 5) + _PENTATONIC[melody % 5])
            start = at + step.begin * beat
            if (bar // 2) % 2:
                mix.add(voice(hertz / 2, step.length * beat, rng.choice(["a", "e", "i", "o"])), start, 0.55, 0.1)
            else:
                mix.add(bell(hertz, 1.5), start, 0.4, 0.4)
    echo = int(0.75 * beat * RATE)
    mix.audio[echo:] += 0.2 * mix.audio[:-echo, ::-1]
    fade = min(RATE // 2, len(mix.audio))
    mix.audio[-fade:] *= np.linspace(1, 0, fade, dtype=np.float32)[:, None]
    return mix.audio


@dataclass(frozen=True)
class _Step:
    """A note of the melody, in beats."""

    begin: float
    length: float


def _rhythm(rng: np.random.Generator) -> list[_Step]:
    """A bar of melody."""
    patterns = [(1, 1, 2), (1.5, 0.5, 1, 1), (2, 2), (0.5, 0.5, 1, 2), (3, 1)]
    lengths = patterns[rng.integers(len(patterns))]
    begins = np.cumsum((0, *lengths[:-1]))
    return [_Step(float(begin), length) for begin, length in zip(begins, lengths, strict=True)]


def _accompany(mix: _Mix, rng: np.random.Generator, at: float, beat: float, root: int, chord: int) -> None:
    """A bar of bass, arpeggio and drums."""
    tones = [root + _MINOR[(chord + i) % 7] + 12 * ((chord + i) // 7) for i in (0, 2, 4, 7)]
    for half in range(2):
        mix.add(pluck(rng, _hertz(tones[0] - 12), 2 * beat), at + 2 * half * beat, 0.9, 0.0)
    for eighth in range(8):
        tone = tones[(0, 1, 2, 3, 2, 1, 2, 1)[eighth]]
        mix.add(pluck(rng, _hertz(tone + 12), 1.2), at + eighth * beat / 2, 0.5, -0.4)
        mix.add(drum(rng, "hat"), at + eighth * beat / 2, 0.35 if eighth % 2 else 0.5, 0.3)
    for quarter, kind in enumerate(("kick", "snare", "kick", "snare")):
        mix.add(drum(rng, kind), at + quarter * beat, 0.8 if kind == "kick" else 0.5, 0.0)


def _hertz(midi: float) -> float:
    return 440 * 2 ** ((midi - 69) / 12)
