"""Input and output of the trunk: the waveform at a fixed level, or its log-mel spectrogram.

Of stereo, both are of mid and side, (left + right) / sqrt(2) and (left - right) / sqrt(2): an orthonormal transform, so
that squared errors are the same as those of left and right. Most of the energy of music is in the middle.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torchaudio.functional import griffinlim

from audiovae.layers.losses import squared_error, stft_distance, weighted_error
from audiovae.layers.spectra import inverse_mel_filters, log_mel, mel_filters
from audiovae.layers.trunk import Signal

# Lower bound of a band's standard deviation in natural-log units, so that a band that is always silent stays finite.
MIN_DEVIATION = 0.1
# Root mean square of the training recordings at the trunk, relative to full scale: -16.5 dBFS. Music normalised to its
# peak has this level, and the default loss weights are chosen for it.
LEVEL = 0.15
# Mel bands times the length of the FFT; more would fill the memory with filters.
LARGEST_FILTERS = 1 << 24
# Training recordings below -100 dBFS count as silent.
MIN_LEVEL = 1e-5


@dataclass
class RepresentationConfig:
    """Input and output: the waveform or a mel spectrogram. `masking` is for waveforms, all else but `kind` for mel.

    Attributes:
        kind: "waveform", or "mel": a log-mel spectrogram, from which Griffin-Lim reconstructs audio.
        bands: Number of mel bands, the trunk's input channels.
        n_fft: Length of FFT and window, in samples.
        hop: Samples between frames; at most a quarter of n_fft.
        multiple: Round the number of frames up to a multiple of this, so that the trunk's strides divide it.
        iterations: Iterations of Griffin-Lim; its time is proportional to them.
        masking: Exponent in [0, 1] of the signal's power by which the term `mse` divides squared errors of a waveform,
            because loud sound masks errors in its own band; 0 gives the plain mean squared error.
    """

    kind: Literal["waveform", "mel"] = "waveform"
    bands: int = 256
    n_fft: int = 2048
    hop: int = 245
    multiple: int = 1
    iterations: int = 32
    masking: float = 0.0

    def __post_init__(self) -> None:
        for name in ("bands", "n_fft", "hop", "multiple", "iterations"):
            if getattr(self, name) < 1:
                raise ValueError(f"representation.{name} is {getattr(self, name)}: at least 1")
        if self.kind not in ("waveform", "mel"):
            raise ValueError(f"representation.kind is {self.kind}: choose waveform or mel")
        if not 0 <= self.masking <= 1:
            raise ValueError(f"representation.masking is {self.masking}: choose 0 to 1")
        if self.kind == "mel" and self.masking:
            raise ValueError("representation.masking needs representation.kind waveform; set it to 0")
        if self.kind == "mel" and self.bands * self.n_fft > LARGEST_FILTERS:
            raise ValueError(f"representation: {self.bands} bands with an FFT of {self.n_fft} are too many")
        if self.kind == "mel" and 4 * self.hop > self.n_fft:
            raise ValueError(
                f"representation.hop is {self.hop}: at most a quarter of representation.n_fft, {self.n_fft // 4}"
            )


def make_representation(
    config: RepresentationConfig, samples: int, rate: int, audio_channels: int = 1
) -> "Waveform | Mel":
    """The representation of chunks of `samples` samples at `rate` Hz in 1 or 2 audio channels.

    Raises:
        ValueError: if a setting does not fit; the message names it.
    """
    if config.kind == "mel":
        return Mel(config, samples, rate, audio_channels)
    return Waveform(samples, audio_channels, config.masking)


def mid_side(audio: Tensor) -> Tensor:
    """Left and right [B, 2, T] -> mid and side, and back: the transform is its own inverse. Mono [B, 1, T] stays."""
    if audio.shape[1] == 1:
        return audio
    left, right = audio.unbind(1)
    return torch.stack([left + right, left - right], 1) * math.sqrt(0.5)


class Waveform(nn.Module):
    """Audio times one gain, [B, C, T], so that the balance of the losses does not depend on the level of the data.

    C is 1 for mono, and 2 for mid and side of stereo.

    Attributes:
        channels, frames: Shape of a represented chunk.
        signal: What the channels are, for the initialization of the trunk.
        gain: Factor from audio to the trunk; 1 until `calibrate`.
        not_in_onnx: Why an ONNX program cannot contain it; empty if it can.
    """

    signal: ClassVar[Signal] = "waveform"
    not_in_onnx = ""

    def __init__(self, samples: int, audio_channels: int = 1, masking: float = 0.0) -> None:
        """`masking`: See `RepresentationConfig`."""
        super().__init__()
        self.masking = masking
        self.channels = audio_channels
        self.frames = samples
        self.gain = nn.Buffer(torch.ones(()))
        self.register_load_state_dict_pre_hook(Waveform._before_load)

    def _before_load(self, state: dict[str, Tensor], prefix: str, *_: Any) -> None:
        # Older models have no gain; they were trained without one.
        state.setdefault(f"{prefix}gain", torch.ones(()))

    def represent(self, audio: Tensor) -> Tensor:
        """[B, C, T] audio -> [B, C, T]."""
        return mid_side(audio) * self.gain

    def render(self, representation: Tensor) -> Tensor:
        """[B, C, T] -> [B, C, T] audio."""
        return mid_side(representation / self.gain)

    def distances(self, output: Tensor, target: Tensor) -> dict[str, Tensor]:
        """The reconstruction terms of training, each [B]: `mse` and `stft`, at the trunk's level.

        With `masking`, `mse` is `audiovae.layers.losses.weighted_error`, of mid and side as it is without.

        Of stereo, `stft` is the mean over mid, side, left and right, as errors of each of them can be heard (Steinmetz,
        Pons, Pascual and Serra 2021, "Automatic multitrack mixing with a differentiable mixing console of neural
        audio effects", for sum and difference).
        """
        if self.masking:
            mse = weighted_error(output, target, self.masking)
        else:
            mse = squared_error(output.float(), target)
        if self.channels == 2:
            output, target = (torch.cat([signal, mid_side(signal)], 1) for signal in (output, target))
        return {"mse": mse, "stft": stft_distance(output, target)}

    @torch.no_grad()
    def calibrate(self, batches: Iterable[Tensor]) -> None:
        """Sets the gain that brings audio [B, C, T] to a root mean square of `LEVEL`; silence leaves it unchanged."""
        count, squares = 0, 0.0
        for audio in batches:
            count += audio.numel()
            squares += audio.double().square().sum().item()
        level = math.sqrt(squares / max(count, 1))
        if level > MIN_LEVEL:
            self.gain.fill_(LEVEL / level)


class Mel(nn.Module):
    """Log-mel magnitudes [B, C * bands, frames]; each band has mean 0 and standard deviation 1 over training chunks.

    C is 1 for mono; of stereo, the bands of mid come first, then those of side. Audio is padded with silence to whole
    frames, and rendered audio is cut to the chunk length.

    Attributes:
        mean, std: [C * bands, 1] each, in natural-log units; rough guesses until `calibrate`.
        channels, frames, signal, not_in_onnx: As in `Waveform`.
    """

    not_in_onnx = "a mel model renders with Griffin-Lim, and ONNX has no inverse STFT"

    def __init__(self, config: RepresentationConfig, samples: int, rate: int, audio_channels: int = 1) -> None:
        super().__init__()
        self.config, self.samples, self.rate = config, samples, rate
        self.audio_channels, self.channels = audio_channels, audio_channels * config.bands
        self.signal: Signal = "spectrum" if audio_channels == 1 else "two spectra"
        self.frames = math.ceil(math.ceil(samples / config.hop) / config.multiple) * config.multiple
        self._shape = (config.bands, config.n_fft, config.hop, rate)
        if config.n_fft // 2 >= samples:
            raise ValueError(f"representation.n_fft is {config.n_fft}: too long for chunks of {samples} samples")
        try:
            mel_filters(config.bands, config.n_fft, rate)
        except ValueError as error:
            raise ValueError(f"representation.bands: {error} (representation.n_fft)") from None
        self.padding = self.frames * config.hop - samples
        if self.padding > samples:
            raise ValueError(
                f"representation.multiple is {config.multiple}: {self.frames} frames would consist mostly of padding"
            )
        self.mean = nn.Buffer(torch.full((self.channels, 1), -6.0))
        self.std = nn.Buffer(torch.full((self.channels, 1), 2.0))

    def _log_mel(self, audio: Tensor) -> Tensor:
        """[B, C, samples] -> [B, C * bands, frames] in natural-log units."""
        # Drop the frame that is centred on the end.
        padded = nn.functional.pad(mid_side(audio.float()), (0, self.padding))
        return log_mel(padded, *self._shape)[..., : self.frames]

    def represent(self, audio: Tensor) -> Tensor:
        """[B, C, samples] audio -> [B, C * bands, frames] float32, normalised."""
        return (self._log_mel(audio) - self.mean) / self.std

    @torch.no_grad()
    def render(self, representation: Tensor) -> Tensor:
        """[B, C * bands, frames] -> [B, C, samples] audio in float32; deterministic. Mid and side are rendered apart.

        Magnitudes come from least squares (the pseudo-inverse of the filters, with negative values set to zero), phases
        from the fast Griffin-Lim algorithm (Perraudin, Balazs and Sondergaard 2013), which starts with phases of zero.
        """
        config = self.config
        with torch.autocast(representation.device.type, enabled=False):
            # A full-scale sine has a log magnitude of -0.7. The bounds keep exp() finite for untrained models.
            mel = (representation.float() * self.std + self.mean).clamp(-20.0, 5.0).exp()
            mel = mel.unflatten(1, (self.audio_channels, -1)).flatten(0, 1)
            magnitude = (inverse_mel_filters(*self._inverse(mel)) @ mel).clamp_min(0.0)
            window = torch.hann_window(config.n_fft, device=mel.device)
            # Griffin-Lim expects the frame that is centred on the end: repeat the last one.
            magnitude = nn.functional.pad(magnitude * window.sum(), (0, 1), mode="replicate")
            audio = griffinlim(
                magnitude,
                window,
                config.n_fft,
                config.hop,
                config.n_fft,
                power=1.0,
                n_iter=config.iterations,
                momentum=0.99,
                length=self.frames * config.hop,
                rand_init=False,
            )
        return mid_side(audio[:, : self.samples].unflatten(0, (-1, self.audio_channels)))

    def _inverse(self, like: Tensor) -> tuple[int, int, int, str]:
        return self.config.bands, self.config.n_fft, self.rate, str(like.device)

    def distances(self, output: Tensor, target: Tensor) -> dict[str, Tensor]:
        """The reconstruction terms of training, each [B], on [B, C * bands, frames].

        `mse` is on normalised bands; `stft`, a distance of spectra as for the waveform, is the mean absolute
        difference of log-mel in natural-log units (0.115 is 1 dB).
        """
        with torch.autocast(output.device.type, enabled=False):
            output = output.float()
            difference = (output - target) * self.std
            return {"mse": squared_error(output, target), "stft": difference.abs().flatten(1).mean(1)}

    @torch.no_grad()
    def calibrate(self, batches: Iterable[Tensor]) -> None:
        """Sets mean and std of each band from audio [B, C, samples], in float64; without batches they stay."""
        count = 0
        total = squares = torch.zeros((), dtype=torch.float64)
        for audio in batches:
            values = self._log_mel(audio).double()
            count += values.shape[0] * values.shape[2]
            total = total + values.sum((0, 2))
            squares = squares + values.square().sum((0, 2))
        if count:
            mean = total / count
            deviation = (squares / count - mean.square()).clamp_min(0.0).sqrt().clamp_min(MIN_DEVIATION)
            self.mean.copy_(mean.unsqueeze(1))
            self.std.copy_(deviation.unsqueeze(1))
