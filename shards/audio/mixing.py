"""Blocks of several channels as mono or stereo at a wanted rate, and what is odd about them."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import soxr

MEAN, LOUDER = "mean", "louder"
_NAMES = {"left": (0,), "right": (1,)}
_NUMBERS = re.compile(r"[1-9]\d{0,2}(,[1-9]\d{0,2})*")
# Every so many frames are looked at to compare the channels.
SAMPLED = 61
# The mean of channels that cancel each other is so much weaker than the loudest of them: 20 dB.
CANCELLED = 0.01
# In stereo, a side that is so much weaker than the other has no sound: 60 dB.
ONE_SIDED = 1e-6
LEAST_FRAMES = 256  # looked at, before anything is said about the channels
# A sample beyond full scale by 12 dB that is so many times larger than all around it is a fault, no sound.
WILD, WILD_RATIO = 4.0, 20.0
AROUND = 64  # samples on each side
MOST_WILD = 8  # of a block and a channel; more of them are no glitch


@dataclass(frozen=True)
class Channels:
    """Some channels, by index from 0: for mono their mean, for stereo left and right.

    Attributes:
        indices: The channels; None for all, of which stereo takes the first two. One stands for both sides.
        louder: Whether only the loudest channel is used, which is known when all of them were read once.
    """

    indices: tuple[int, ...] | None = None
    louder: bool = False


def parse_channels(text: str, outputs: int = 1) -> Channels:
    """Reads `mean`, `left`, `right`, `louder` or numbers from 1 such as `1,2`, for mono (1 output) or stereo (2).

    Raises ValueError; for stereo also where more than two channels are named.
    """
    if text == MEAN:
        return Channels()
    if text == LOUDER:
        return Channels(louder=True)
    if text in _NAMES:
        return Channels(_NAMES[text])
    if not _NUMBERS.fullmatch(text):
        raise ValueError(f"{text} names no channels: give mean, left, right, louder or numbers from 1 such as 1,2")
    indices = [int(number) - 1 for number in text.split(",")]
    if outputs == 1:
        return Channels(tuple(sorted({*indices})))
    if len(indices) > outputs:
        raise ValueError(f"{text} names {len(indices)} channels: stereo has two, give one or two numbers such as 3,4")
    return Channels(tuple(indices))


class Mixer:
    """Takes blocks as they are decoded and gives mono or stereo at `rate` Hz; rate and channels of them may change.

    Files that were joined end to end may have other rates in their parts. Each part is resampled for itself.

    Attributes:
        repaired: Single wild samples that were replaced by their neighbours.
    """

    def __init__(self, rate: int, channels: tuple[int, ...] | None = None, outputs: int = 1) -> None:
        """Uses all channels, or those with the indices `channels`; a missing one is the last.

        Args:
            rate: Wanted rate in Hz.
            channels: The channels, as in `Channels`.
            outputs: 1 for their mean; 2 for the first two as left and right, where one alone is both.
        """
        self.repaired = 0
        self._rate, self._channels, self._outputs = rate, channels, outputs
        self._own_rate = 0
        self._resampler: soxr.ResampleStream | None = None
        self._mixed = np.empty(self._shape(0), np.float32)
        self._power, self._mixed_power, self._frames = np.zeros(1), 0.0, 0

    def add(self, block: np.ndarray, rate: int, full_scale: float = 1) -> Iterator[np.ndarray]:
        """The audio that is complete now, float32 [n] or [n, 2]; each array is valid until the next call.

        Args:
            block: Float32 [n, channels]; wild samples in it are repaired.
            rate: Its rate in Hz.
            full_scale: The value that stands for full scale; integers stand for audio that cannot exceed it.
        """
        if rate != self._own_rate:
            yield from self.end()
            self._own_rate = rate
            if rate != self._rate:
                self._resampler = soxr.ResampleStream(rate, self._rate, self._outputs, dtype="float32", quality="HQ")
        if full_scale == 1 and len(block) and not max(block.max(), -block.min()) <= WILD:
            self.repaired += sum(repair(column) for column in block.T)
        if len(self._mixed) < len(block):
            self._mixed = np.empty(self._shape(len(block)), np.float32)
        if self._channels is not None:
            last = block.shape[1] - 1
            columns = [min(index, last) for index in self._channels]
            block = block[:, sorted({*columns}) if self._outputs == 1 else columns]
        mixed = self._mixed[: len(block)]
        if self._outputs == 1:
            _sum(block, mixed)
            mixed *= np.float32(1 / (block.shape[1] * full_scale))
        else:
            np.multiply(block[:, :2], np.float32(1 / full_scale), out=mixed)  # one channel goes to both sides
        self._compare(block, mixed, full_scale)
        yield self._resampler.resample_chunk(mixed) if self._resampler else mixed

    def end(self) -> Iterator[np.ndarray]:
        """What the resampler still holds."""
        if self._resampler:
            yield self._resampler.resample_chunk(np.zeros(self._shape(0), np.float32), last=True)
        self._resampler, self._own_rate = None, 0

    @property
    def loudest(self) -> int:
        """Which of the channels that are used is the loudest, counted from 0."""
        return int(self._power.argmax())

    @property
    def cancels(self) -> bool:
        """Whether the channels cancel each other in the mean; stereo has none."""
        enough = self._outputs == 1 and self._frames >= LEAST_FRAMES
        return enough and self._mixed_power < CANCELLED * self._power[self.loudest]

    @property
    def only_side(self) -> int | None:
        """The side of stereo that has all the sound, 0 or 1; None where both have some, and in mono."""
        if self._outputs == 1 or self._frames < LEAST_FRAMES or len(self._power) < 2:
            return None
        left, right = self._power[:2]
        return 0 if right < ONE_SIDED * left else 1 if left < ONE_SIDED * right else None

    def _shape(self, frames: int) -> tuple[int, ...]:
        return (frames,) if self._outputs == 1 else (frames, self._outputs)

    def _compare(self, block: np.ndarray, mixed: np.ndarray, full_scale: float) -> None:
        if block.shape[1] == 1 and self._outputs == 1:
            return
        some = block[::SAMPLED] * np.float32(1 / full_scale)
        if some.shape[1] == 1:  # it is on both sides
            some = some[:, [0, 0]]
        channels = some.shape[1]
        if len(self._power) < channels:
            self._power = np.concatenate([self._power, np.zeros(channels - len(self._power))])
        self._frames += len(some)
        self._power[:channels] += np.square(some).sum(0)
        self._mixed_power += float(np.square(mixed[::SAMPLED]).sum())


def repair(column: np.ndarray) -> int:
    """Replaces single wild samples of [n] by the mean of their neighbours; returns their number.

    They come from plug-ins that failed for one sample. A single one would turn the whole recording into silence when
    its peak is brought to full scale.
    """
    wild = np.flatnonzero(np.abs(column) > WILD)
    if len(wild) > MOST_WILD:
        return 0
    count = 0
    for place in wild.tolist():
        begin = max(0, place - AROUND)
        around = np.abs(np.delete(column[begin : place + AROUND + 1], place - begin))
        if len(around) and around.max() * WILD_RATIO < abs(column[place]) < np.inf:
            beside = column[[max(0, place - 1), min(len(column) - 1, place + 1)]]
            beside = beside[np.abs(beside) <= WILD]
            column[place] = beside.mean() if len(beside) else 0
            count += 1
    return count


def _sum(block: np.ndarray, out: np.ndarray) -> np.ndarray:
    """Sum of the channels, float32 [n, channels] -> [n]. NumPy's own sum along this axis takes 20 times as long."""
    if block.shape[1] == 1:
        out[:] = block[:, 0]
        return out
    np.add(block[:, 0], block[:, 1], out=out)
    for channel in range(2, block.shape[1]):
        out += block[:, channel]
    return out
