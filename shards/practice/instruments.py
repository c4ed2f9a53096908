"""Four small instruments: functions of a pitch and a length that return float32 [n] around full scale 1."""

from itertools import pairwise

import numpy as np

RATE = 44100  # Hz
_VOWELS = {"a": (730, 1090, 2440), "e": (530, 1840, 2480), "i": (270, 2290, 3010), "o": (570, 840, 2410)}


def pluck(rng: np.random.Generator, hertz: float, seconds: float) -> np.ndarray:
    """A plucked string: noise in a delay line that is averaged at each turn (Karplus and Strong, 1983)."""
    period = max(2, round(RATE / hertz))
    turns = -(-int(seconds * RATE) // period)
    string = np.convolve(rng.uniform(-1, 1, period + 3), np.full(4, 0.25), "valid")
    rows = np.empty((turns, period), np.float32)
    # Low strings turn less often and would ring far longer than high ones.
    damping = 0.5 ** (period / RATE / 0.6)
    rows[0] = string
    for before, row in pairwise(rows):
        np.add(before[1:], before[:-1], out=row[1:])
        row[0] = before[0] + before[-1]
        row *= damping * 0.5
    return _faded(rows.ravel()[: int(seconds * RATE)], 0.002, 0.05)


def bell(hertz: float, seconds: float) -> np.ndarray:
    """A bell by frequency modulation at an inharmonic ratio whose depth dies away (Chowning, 1973)."""
    t = np.arange(int(seconds * RATE)) / RATE
    depth = 3.0 * np.exp(-4 * t)
    tone = np.sin(2 * np.pi * hertz * t + depth * np.sin(2 * np.pi * 2.756 * hertz * t))
    return _faded((0.6 * np.exp(-2.5 * t) * tone).astype(np.float32), 0.003, 0.05)


def voice(hertz: float, seconds: float, vowel: str) -> np.ndarray:
    """A sung vowel: the falling spectrum of a glottal pulse under three formants, with vibrato."""
    t = np.arange(int(seconds * RATE)) / RATE
    vibrato = 0.006 * np.minimum(t / 0.4, 1) * np.sin(2 * np.pi * 5.3 * t)
    phase = np.cumsum(hertz * (1 + vibrato)) / RATE
    harmonics = np.arange(1, int(4500 / hertz) + 1)
    formants = np.array(_VOWELS[vowel])[:, None]
    widths = np.array([90, 110, 170])[:, None]
    gains = np.array([1.0, 0.6, 0.3])[:, None]
    weights = (gains / (1 + ((harmonics * hertz - formants) / widths) ** 2)).sum(axis=0) + 0.02
    weights /= harmonics**0.8
    turn = np.linspace(0, 1, 2049)
    cycle = weights @ np.sin(2 * np.pi * harmonics[:, None] * turn)
    tone = np.interp(phase % 1, turn, 0.5 * cycle / np.abs(cycle).max())
    return _faded(tone.astype(np.float32), 0.06, 0.1)


def drum(rng: np.random.Generator, kind: str) -> np.ndarray:
    """A kick (a sine that falls in pitch), a snare or a hat (noise)."""
    t = np.arange(int({"kick": 0.3, "snare": 0.2, "hat": 0.06}[kind] * RATE)) / RATE
    if kind == "kick":
        hit = 0.9 * np.sin(2 * np.pi * (48 * t - 8 * np.exp(-t / 0.03))) * np.exp(-t / 0.09)
    else:
        noise = rng.uniform(-1, 1, len(t) + 1)
        if kind == "hat":
            hit = 0.3 * np.diff(noise) * np.exp(-t / 0.015)
        else:
            hit = (0.5 * noise[1:] + 0.4 * np.sin(2 * np.pi * 185 * t)) * np.exp(-t / 0.05)
    return _faded(hit.astype(np.float32), 0.001, 0.02)


def _faded(tone: np.ndarray, attack_s: float, release_s: float) -> np.ndarray:
    """Without clicks at either end."""
    up, down = int(attack_s * RATE), int(release_s * RATE)
    ramp = np.ones(len(tone), np.float32)
    ramp[:up] = np.linspace(0, 1, up)[: len(tone)]
    ramp[-down:] *= np.linspace(1, 0, down)[-len(tone) :]
    return tone * ramp
