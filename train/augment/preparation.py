"""From records to what the model takes: the window of each row, and its augmentation."""

import numpy as np
import torch
from torch import Tensor

from shards import Batch, DataError, Manifest, Split
from shards.chunk import NAME_LENGTH, read_names
from shards.reading.channels import by_channel
from shards.reading.windows import cut
from train.augment import effects
from train.augment.draws import Draws, Purpose
from train.augment.settings import OF_STEREO, AugmentConfig


class Preparation:
    """Makes audio of batches, as a function of (seed, step, row) and nothing else.

    Attributes:
        augment: The changes of the audio.
        crop: Samples of a window; 0 for whole records.
        seed: The seed of the run.
    """

    def __init__(self, augment: AugmentConfig, crop: int, seed: int, split: Split) -> None:
        """`split` is what batches are from; its records are at least `crop` samples long.

        Raises:
            DataError: when `augment` needs two channels and the split has one.
        """
        check_channels(augment, split)
        self.augment, self.crop, self.seed = augment, crop, seed
        self._rate, self._samples, self._split = split.rate, split.samples, split
        self._lengths = lengths_of(split.manifest)

    def audio(
        self, batch: Batch, other: Batch | None, step: int, device: torch.device, part: slice = slice(None)
    ) -> Tensor:
        """What the model takes in a step.

        Args:
            batch: Rows of the global batch.
            other: As many rows to mix in, in the same order; None unless `augment.mix` is set.
            step: Steps done before this one.
            device: Where to.
            part: Which of the rows.

        Returns:
            [n, channels, T] float32, full scale 1.
        """
        draws = Draws(self.seed, step, batch.rows[part].numpy())
        audio = self._cut(batch, draws, Purpose.CROP, device, part)
        if self.augment.active:
            audio = self._changed(audio, other, draws, part)
        return audio

    def places(self, batch: Batch, step: int) -> np.ndarray:
        """The first sample of each row's window in its record, int64 [n]; 0 for whole records."""
        return self._places(batch, Draws(self.seed, step, batch.rows.numpy()), Purpose.CROP, slice(None))

    def _places(self, batch: Batch, draws: Draws, purpose: Purpose, part: slice) -> np.ndarray:
        count = len(batch.rows[part])
        if not self.crop:
            return np.zeros(count, np.int64)
        room = np.full(count, self._samples)
        if self._lengths is not None:
            names = batch.records[part].numpy().view(np.uint8)[:, :NAME_LENGTH]
            source, _, good = read_names(names)
            source = source + self._split.source_offsets(batch.chunks[part])
            known = good & (source < len(self._lengths))
            room[known] = self._lengths[source[known]]
        return draws.below(np.maximum(room - self.crop, 0) + 1, purpose)

    def _cut(self, batch: Batch, draws: Draws, purpose: Purpose, device: torch.device, part: slice) -> Tensor:
        """The windows of some rows on the device: [n, channels, T] float32."""
        audio = batch.on(device, part)
        if self.crop:
            places = self._places(batch, draws, purpose, part)
            audio = cut(audio, np.arange(len(audio)), places, self.crop, channels=batch.channels)
        sides = by_channel(audio, batch.channels)
        return sides.to(torch.float32, memory_format=torch.contiguous_format).div_(32768.0)

    def _changed(self, audio: Tensor, other: Batch | None, draws: Draws, part: slice) -> Tensor:
        """Augmented audio [n, channels, T]; the changes are those of `AugmentConfig`, in their order."""
        own, device = self.augment, audio.device

        def number(values: np.ndarray) -> Tensor:
            return torch.from_numpy(values).to(device, non_blocking=True)

        def factors(purpose: Purpose, decibels: tuple[float, float], rows: np.ndarray) -> Tensor:
            return number(10 ** (draws.uniform(purpose, *decibels)[rows] / 20)).float()

        if other is not None and len(rows := draws.chosen(own.mix, Purpose.MIX)):
            at = number(rows)
            added = self._cut(other, draws, Purpose.OTHER_CROP, device, part)[at]
            audio[at] += added * factors(Purpose.MIX_LEVEL, own.mix_db, rows)[:, None, None]
        if len(rows := draws.chosen(own.reverse, Purpose.REVERSE)):
            at = number(rows)
            audio[at] = audio[at].flip(2)
        if len(rows := draws.chosen(own.swap, Purpose.SWAP)):
            at = number(rows)
            audio[at] = audio[at].flip(1)
        if len(rows := draws.chosen(own.lowpass, Purpose.LOWPASS)):
            at, (low, high) = number(rows), np.log(own.lowpass_hz)
            cutoff = number(np.exp(draws.uniform(Purpose.CUTOFF, low, high)[rows])).float()
            audio[at] = effects.lowpass(audio[at], cutoff, self._rate)
        if len(rows := draws.chosen(own.noise, Purpose.NOISE)):
            at = number(rows)
            sides = (Purpose.NOISE_WAVEFORM, Purpose.NOISE_WAVEFORM_RIGHT)[: audio.shape[1]]
            bits = (number(draws.bits(side)[rows].view(np.int64)) for side in sides)
            noise = torch.stack([effects.white_noise(one, audio.shape[2]) for one in bits], 1)
            audio[at] = effects.with_noise(audio[at], noise, factors(Purpose.NOISE_LEVEL, own.noise_db, rows))
        if len(rows := draws.chosen(own.polarity, Purpose.POLARITY)):
            at = number(rows)
            audio[at] = -audio[at]
        if len(rows := draws.chosen(own.gain, Purpose.GAIN)):
            at = number(rows)
            audio[at] *= factors(Purpose.GAIN_LEVEL, own.gain_db, rows)[:, None, None]
        return effects.fitted(audio)


def check_channels(augment: AugmentConfig, split: Split) -> None:
    """Raises DataError when a change needs two channels and the chunks of a split have one."""
    for name in OF_STEREO:
        if split.channels == 1 and (share := getattr(augment, name)):
            raise DataError(
                f"augment.{name} is {share:g}, and the chunks of {split.where} are mono: set it to 0, or build the "
                "data again into another folder, with --channels 2"
            )


def lengths_of(manifest: Manifest) -> np.ndarray | None:
    """By source, how many samples of its chunks are its recording and no padding: int64 [sources].

    None where no recording is shorter than a chunk.
    """
    most = manifest.samples
    found = np.array(
        [
            most if source.members else round(min(most, source.duration_s * manifest.rate))
            for source in manifest.sources
        ],
        np.int64,
    )
    used = np.array([bool(source.chunks) for source in manifest.sources], bool)
    return found if (found[used] < most).any() else None
