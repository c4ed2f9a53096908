"""Levels of the upper bands: measured in a recording, and given to noise that fills what the trunk leaves out.

The waveform trunk keeps as many bands as it has latents and drops all others. Above them, listeners hear how loud each
band is and hardly its waveform. So a few latents carry the levels of the upper bands, and the decoder fills each band
with noise up to its level. Both work in a lapped cosine transform, whose rows are orthonormal: noise that is scaled
there has exactly the wanted power in the output.
"""

import itertools
import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from audiovae.layers.convolutions import Causal
from audiovae.layers.noise import Noise
from audiovae.layers.transforms import lapped_cosines

# The hop of the transform is at most this long: attacks in noise are not smeared audibly.
LONGEST_HOP_S = 0.0065
# Mean power of a coefficient that counts as silence: -80 dB relative to white noise at full scale. Rounding in float32
# makes levels far below it differ between programs.
FLOOR = 1e-8
# Lower bound of a level's standard deviation, in natural-log units of power, and the values before `calibrate`.
MIN_DEVIATION = 0.5
START = (-12.0, 3.0)
# Levels are bounded, so that latents that no encoder made cannot overflow: e^4 is far above full scale.
LOUDEST = 4.0
# The square root of the share of power that is missing has an infinite slope at zero, where rounding would decide. This
# bounds the slope; a band that is missing altogether gets 0.2 dB less.
SOFT = 0.05
# Training draws positions in the noise below this.
POSITIONS = 1 << 19
# Multipliers of the hash that makes noise, odd and below 2^31, so that products stay below 2^63.
MIX = (0x45D9F3B, 0x119DE1F3, 0x27D4EB2F)
WORD = 0xFFFFFFFF
# Zero would stay zero.
OFFSET = 0x9E3779B9


@dataclass
class LevelsConfig:
    """Levels of the upper bands as latents. They need the waveform as representation.

    Attributes:
        bands: Number of bands, equally wide on the mel scale, up to half the sample rate; 0 means none.
        lowest: Lower edge of the lowest band in Hz.
        fill_from: Bands whose middle is below this frequency in Hz are left as the trunk made them, without noise.
        latents: Latent channels (of a VQ-VAE: codebooks) that carry the levels of an audio channel.
        hold: Latent frames for each frame of levels; they carry one part each.
    """

    bands: int = 0
    lowest: float = 1500.0
    fill_from: float = 0.0
    latents: int = 12
    hold: int = 1

    def __post_init__(self) -> None:
        if self.bands < 0 or min(self.latents, self.hold) < 1 or min(self.lowest, self.fill_from) < 0:
            raise ValueError(
                f"levels.bands is {self.bands}, levels.latents {self.latents}, levels.hold {self.hold}, "
                f"levels.lowest {self.lowest} and levels.fill_from {self.fill_from}: at least 0, 1, 1, 0 and 0"
            )

    @property
    def channels(self) -> int:
        """Latent channels in use: none without bands."""
        return self.latents if self.bands else 0

    def for_channels(self, count: int) -> "LevelsConfig":
        """The settings of the bands and latents of `count` audio channels together."""
        return replace(self, bands=self.bands * count, latents=self.latents * count)

    def frames(self, latent_frames: int) -> int:
        """Frames of levels of a chunk with this many latent frames.

        Raises:
            ValueError: if `hold` does not divide them.
        """
        if latent_frames % self.hold:
            raise ValueError(f"levels.hold is {self.hold}: it does not divide {latent_frames} latent frames")
        return latent_frames // self.hold

    def check(self, representation: str, pooled: bool = False) -> None:
        """Raises ValueError if a model of this representation, pooled over time or not, cannot have levels."""
        if self.bands and (representation != "waveform" or pooled):
            raise ValueError(
                f"levels.bands is {self.bands}: levels need representation.kind waveform and latents along time; "
                "set levels.bands to 0"
            )


def fold(parts: Tensor, hold: int) -> Tensor:
    """Parts of slow frames as successive fast frames: [B, C * hold, T] -> [B, C, T * hold]."""
    return parts.unflatten(1, (-1, hold)).transpose(2, 3).flatten(2)


def unfold(channels: Tensor, hold: int) -> Tensor:
    """The inverse of `fold`: [B, C, T * hold] -> [B, C * hold, T]."""
    return channels.unflatten(2, (-1, hold)).transpose(2, 3).flatten(1, 2)


def hop_for(samples: int, frames: int, rate: int) -> int:
    """The longest hop in samples that divides a frame of levels and is at most LONGEST_HOP_S."""
    length = samples // frames
    most = max(1, int(rate * LONGEST_HOP_S))
    return max(hop for hop in range(1, most + 1) if length % hop == 0)


def band_edges(bands: int, lowest: float, hop: int, rate: int) -> list[int]:
    """Edges of the bands as numbers of coefficients, `bands` + 1 of them, equal steps on the mel scale.

    The scale is m = log(1 + f / 700 Hz) up to a factor (O'Shaughnessy 1987).

    Raises:
        ValueError: if a band would be empty, or none fits.
    """
    if lowest >= rate / 2:
        raise ValueError(f"levels.lowest is {lowest:g}: choose less than half the sample rate, {rate / 2:g} Hz")
    low, high = math.log1p(lowest / 700), math.log1p(rate / 2 / 700)
    mels = [low + (high - low) * i / bands for i in range(bands + 1)]
    edges = [round(700 * math.expm1(mel) / (rate / 2) * hop) for mel in mels]
    if any(after <= before for before, after in itertools.pairwise(edges)):
        raise ValueError(f"levels.bands is {bands}: from {lowest:g} Hz up some would be empty; choose fewer")
    return edges


def centres_of(edges: list[int], hop: int, rate: int) -> list[float]:
    """The middle of each band in Hz, from the edges of `band_edges`."""
    return [(low + high) / 2 / hop * rate / 2 for low, high in itertools.pairwise(edges)]


def noise_at(positions: Tensor, count: int) -> Tensor:
    """White noise as a pure function of position, of mean 0 and variance 1, uniform: [...] int64 -> [..., count].

    Integer arithmetic alone decides, so every machine and every export gives the same noise. Each value hashes
    position * 4096 + index in rounds of multiply and shift on 32 bits.
    """
    index = torch.arange(count, device=positions.device)
    word = (positions.unsqueeze(-1) * 4096 + index + OFFSET) % (WORD + 1)
    for factor in MIX:
        word = ((word ^ (word // 65536)) * factor) % (WORD + 1)
    word = word ^ (word // 65536)
    return (word.float() / (WORD + 1) - 0.5) * math.sqrt(12)


def members(edges: list[int]) -> Tensor:
    """Which coefficients from the lowest edge on are in a band, 1 or 0: [bands, coefficients]."""
    member = torch.zeros(len(edges) - 1, edges[-1] - edges[0])
    for band, (low, high) in enumerate(itertools.pairwise(edges)):
        member[band, low - edges[0] : high - edges[0]] = 1
    return member


class BandLevels(Causal):
    """Measures levels of the upper bands, and fills a waveform up to given levels.

    Levels are natural logarithms of the mean power of a coefficient, one for each band and frame; normalised levels
    have mean 0 and standard deviation 1 over the training recordings.

    Causal levels use the past only: frames of the transform end where others have their middle, gains run from the
    frame before to this one, and the noise comes one hop later. Bands that are too loud are not turned down, because
    this would need the frame of the transform that is still to come.

    Each of C channels of audio has its own bands, those of the first channel first, and its own noise.

    Attributes:
        hop: Samples between frames of the transform.
        times: Frames of the transform in a frame of levels.
        channels: C.
        centres: [C * bands, 1], the middle of each band in Hz.
        filled: [C * bands, 1], 1 for bands that `fill` changes and 0 for others; `fills` says whether there are any.
        mean, std: [C * bands, 1] each, of the levels; rough guesses until `calibrate`.
        start: Samples of the recording at which the items to fill begin, int64 [B], or 0 for all. If these are
            multiples of `hop`, parts that are decoded apart have the same noise where they overlap.
    """

    start: Tensor | int = 0

    def __init__(
        self, config: LevelsConfig, samples: int, frames: int, rate: int, causal: bool = False, channels: int = 1
    ) -> None:
        """`frames`: frames of levels in a chunk of `samples` samples."""
        super().__init__()
        self.causal, self.channels = causal, channels
        self.hop = hop_for(samples, frames, rate)
        self.times = samples // frames // self.hop
        edges = band_edges(config.bands, config.lowest, self.hop, rate)
        # What follows from the settings is in no file, and has values even in a model on the device "meta".
        with torch.device("cpu"):
            self.member = nn.Buffer(torch.block_diag(*[members(edges)] * channels), persistent=False)
            kernel = lapped_cosines(self.hop)[edges[0] : edges[-1]].unsqueeze(1)
            self.kernel = nn.Buffer(kernel.repeat(channels, 1, 1), persistent=False)
            centres = torch.tensor(centres_of(edges, self.hop, rate) * channels).unsqueeze(1)
            self.centres = nn.Buffer(centres, persistent=False)
            self.filled = nn.Buffer((centres >= config.fill_from).float(), persistent=False)
            self.fills = bool(self.filled.any())
        self.mean = nn.Buffer(torch.full((channels * config.bands, 1), START[0]))
        self.std = nn.Buffer(torch.full((channels * config.bands, 1), START[1]))

    def coefficients(self, audio: Tensor) -> Tensor:
        """[B, C, T] -> [B, C * coefficients, T / hop] of the upper bands."""
        if self.causal:
            padded = self.extended(audio, self.hop)
        else:
            start = self.hop // 2
            padded = nn.functional.pad(audio, (start, self.hop - start))
        return nn.functional.conv1d(padded, self.kernel.to(audio.device), stride=self.hop, groups=self.channels)

    def power(self, coefficients: Tensor) -> Tensor:
        """Mean power of a coefficient in each band and frame: [B, C * coefficients, t] -> [B, C * bands, frames]."""
        member = self.member.to(coefficients.device)
        power = (member / member.sum(1, keepdim=True)) @ coefficients.square()
        return power.unflatten(2, (-1, self.times)).mean(3)

    def measure(self, audio: Tensor) -> Tensor:
        """Normalised levels: [B, C, samples] -> [B, C * bands, frames] float32."""
        with torch.autocast(audio.device.type, enabled=False):
            power = self.power(self.coefficients(audio.float()))
            # Not `power + FLOOR`: optimizers of ONNX programs take so small a summand for zero.
            return (power.clamp_min(FLOOR).log() - self.mean) / self.std

    def fill(self, audio: Tensor, levels: Tensor, noise: Noise | None = None) -> Tensor:
        """Adds noise to each band up to its level, and turns down bands that are too loud.

        The levels and the amount of noise get no gradient: the waveform's losses would silence all noise, which only
        adds to their errors.

        Args:
            audio: [B, C, samples], the output of the trunk.
            levels: [B, C * bands, frames] normalised.
            noise: Draws positions in the noise, see `noise_for`.

        Returns:
            [B, C, samples] float32.
        """
        if not self.fills:
            return audio.float()
        with torch.autocast(audio.device.type, enabled=False):
            audio = audio.float()
            own = self.coefficients(audio)
            with torch.no_grad():
                wanted = self.power_of(levels).exp()
                there = self.power(own)
                missing = (1 - there / wanted.clamp_min(FLOOR)).clamp_min(0.0)
                added = wanted.sqrt() * missing / (missing + SOFT).sqrt() * self.filled.to(audio.device)
                if not self.causal:
                    kept = (wanted / there.clamp_min(FLOOR)).clamp_max(1.0).sqrt()
                    kept = torch.where(self.filled.to(audio.device) > 0, kept, 1.0)
                    added, kept = (self.spread(gain, own.shape[2]) for gain in (added, kept))
            if self.causal:
                return audio + self.noise_of_the_past(own, added, noise)
            change = added * self.noise_for(own, noise) + (kept - 1) * own
            difference = nn.functional.conv_transpose1d(
                change, self.kernel.to(audio.device), stride=self.hop, groups=self.channels
            )
            start = self.hop // 2
            return audio + difference[..., start : start + audio.shape[2]]

    def spread(self, gains: Tensor, frames: int) -> Tensor:
        """Gains of all bands [B, rows, frames of levels] -> of coefficients [B, rows, frames of the transform]."""
        smooth = nn.functional.interpolate(gains, frames, mode="linear", align_corners=False)
        return self.member.to(gains.device).T @ smooth

    def noise_of_the_past(self, own: Tensor, gains: Tensor, noise: Noise | None) -> Tensor:
        """The noise that causal levels add: [B, C, T].

        Args:
            own: Coefficients of the audio to fill, [B, C * coefficients, frames of the transform]; their shape counts.
            gains: Of the noise, [B, C * bands, frames of levels].
            noise: As in `fill`.
        """
        joined = self.extended(gains, 1)
        share = (torch.arange(self.times, device=gains.device) + 1) / self.times
        before, after = joined[..., :-1].unsqueeze(3), joined[..., 1:].unsqueeze(3)
        smooth = (before + (after - before) * share).flatten(2)
        made = self.extended(self.member.to(gains.device).T @ smooth * self.noise_for(own, noise), 1)
        kernel = self.kernel.to(own.device)
        return nn.functional.conv_transpose1d(made, kernel, stride=self.hop, padding=self.hop, groups=self.channels)

    def noise_for(self, coefficients: Tensor, noise: Noise | None) -> Tensor:
        """White noise for `fill`, of the shape of the coefficients [B, C * coefficients, frames].

        It is a pure function of the position in the recording: `start`; in training, a position that `noise` draws for
        each item, so that the model cannot learn the noise itself.
        """
        items, count, frames = coefficients.shape
        positions = torch.arange(frames, device=coefficients.device)
        if noise is None and self.memory is not None:
            return noise_at(self.memory.counted(coefficients, frames) + positions, count).transpose(1, 2)
        if noise is None:
            if isinstance(self.start, int):
                return noise_at(positions + self.start // self.hop, count).T.expand(items, -1, -1)
            begins = (self.start // self.hop).to(positions.device).unsqueeze(1)
            return noise_at(begins + positions, count).transpose(1, 2)
        return noise_at(noise.integers(POSITIONS, 1) + positions, count).transpose(1, 2)

    def power_of(self, levels: Tensor) -> Tensor:
        """Natural logarithms of the mean power of a coefficient, of normalised levels [B, C * bands, T]: same shape."""
        return (levels.float() * self.std + self.mean).clamp_max(LOUDEST)

    @torch.no_grad()
    def calibrate(self, chunks: Iterable[Tensor]) -> None:
        """Sets mean and standard deviation of the levels from represented chunks [B, C, samples] of training audio."""
        levels = torch.cat([self.measure(chunk) * self.std + self.mean for chunk in chunks])
        self.mean.copy_(levels.mean((0, 2)).unsqueeze(1))
        self.std.copy_(levels.std((0, 2), unbiased=False).clamp_min(MIN_DEVIATION).unsqueeze(1))
