"""What the trunk sees and returns: the waveform at one level for all data, or its log-mel spectrogram."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torchaudio.functional import griffinlim

from audiovae.layers.losses import squared_error, stft_distance
from audiovae.layers.spectra import inverse_mel_filters, log_mel, mel_filters

# A band's standard deviation counts as this at least, in natural-log units: a band that is always silent stays finite.
MIN_DEVIATION = 0.1
# Root mean square, full scale 1, at which a trunk sees the training recordings: -16.5 dBFS, that of music brought to
# full peaks, for which the losses' weights were chosen.
LEVEL = 0.15
# Training recordings below -100 dBFS have no level to speak of.
MIN_LEVEL = 1e-5


@dataclass
class RepresentationConfig:
    """Input and output of the model: the waveform or a mel spectrogram. All settings but `kind` are for mel.

    Attributes:
        kind: "waveform", or "mel": a log-mel spectrogram, from which Griffin-Lim reconstructs audio.
        bands: Number of mel bands, the trunk's input channels.
        n_fft: Length of FFT and window, in samples.
        hop: Samples between frames; at most a quarter of n_fft.
        multiple: Round the number of frames up to a multiple of this, so that the trunk's strides divide it.
        iterations: Iterations of Griffin-Lim; its time is proportional to them.
    """

    kind: Literal["waveform", "mel"] = "waveform"
    bands: int = 256
    n_fft: int = 2048
    hop: int = 245
    multiple: int = 1
    iterations: int = 32

    def __post_init__(self) -> None:
        for name in ("bands", "n_fft", "hop", "multiple", "iterations"):
            if getattr(self, name) < 1:
                raise ValueError(f"representation.{name} is {getattr(self, name)}: at least 1")
        if self.kind not in ("waveform", "mel"):
            raise ValueError(f"representation.kind is {self.kind}: choose waveform or mel")
        if self.kind == "mel" and 4 * self.hop > self.n_fft:
            raise ValueError(
                f"representation.hop is {self.hop}: at most a quarter of representation.n_fft, {self.n_fft // 4}"
            )


def make_representation(config: RepresentationConfig, samples: int, rate: int) -> "Waveform | Mel":
    """The representation of chunks of `samples` at `rate` Hz.

    Raises:
        ValueError: naming the setting that does not fit.
    """
    return Mel(config, samples, rate) if config.kind == "mel" else Waveform(samples)


class Waveform(nn.Module):
    """Audio times one gain, [B, 1, T]: however loud the data are, the losses weigh the same against each other.

    Attributes:
        gain: Of the trunk's side; 1 until `calibrate`.
        not_in_onnx: Why it cannot be a part of an ONNX program; empty where it can.
    """

    channels = 1
    not_in_onnx = ""

    def __init__(self, samples: int) -> None:
        super().__init__()
        self.frames = samples
        self.gain = nn.Buffer(torch.ones(()))
        self.register_load_state_dict_pre_hook(Waveform._before_load)

    def _before_load(self, state: dict[str, Tensor], prefix: str, *_: Any) -> None:
        # Models saved before there was a gain were trained without one.
        state.setdefault(f"{prefix}gain", torch.ones(()))

    def represent(self, audio: Tensor) -> Tensor:
        """[B, 1, T] audio -> [B, 1, T]."""
        return audio * self.gain

    def render(self, representation: Tensor) -> Tensor:
        """[B, 1, T] -> [B, 1, T] audio."""
        return representation / self.gain

    def distances(self, output: Tensor, target: Tensor) -> dict[str, Tensor]:
        """The reconstruction terms of training, each [B]: `mse` and `stft`, at the trunk's level."""
        return {"mse": squared_error(output.float(), target), "stft": stft_distance(output, target)}

    @torch.no_grad()
    def calibrate(self, batches: Iterable[Tensor]) -> None:
        """Sets the gain that brings audio [B, 1, T] to a root mean square of `LEVEL`; silence changes nothing."""
        count, squares = 0, 0.0
        for audio in batches:
            count += audio.numel()
            squares += audio.double().square().sum().item()
        level = math.sqrt(squares / max(count, 1))
        if level > MIN_LEVEL:
            self.gain.fill_(LEVEL / level)


class Mel(nn.Module):
    """Log-mel magnitudes, each band with mean 0 and deviation 1 over the training chunks: [B, bands, frames].

    Audio is padded with silence until the frames are whole, and what is rendered is cut to the chunk's length.

    Attributes:
        mean, std: [bands, 1] each, in natural-log units; until `calibrate` a rough guess.
        not_in_onnx: As in `Waveform`.
    """

    not_in_onnx = "a mel model renders by Griffin-Lim, and ONNX has no inverse STFT"

    def __init__(self, config: RepresentationConfig, samples: int, rate: int) -> None:
        super().__init__()
        self.config, self.samples, self.rate = config, samples, rate
        self.channels = config.bands
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
                f"representation.multiple is {config.multiple}: {self.frames} frames would be mostly padding"
            )
        self.mean = nn.Buffer(torch.full((config.bands, 1), -6.0))
        self.std = nn.Buffer(torch.full((config.bands, 1), 2.0))

    def _log_mel(self, audio: Tensor) -> Tensor:
        """[B, 1, samples] -> [B, bands, frames] in natural-log units."""
        # Without the frame that would be centred on the end.
        return log_mel(nn.functional.pad(audio.float(), (0, self.padding)), *self._shape)[..., : self.frames]

    def represent(self, audio: Tensor) -> Tensor:
        """[B, 1, samples] audio -> [B, bands, frames] float32, normalised."""
        return (self._log_mel(audio) - self.mean) / self.std

    @torch.no_grad()
    def render(self, representation: Tensor) -> Tensor:
        """[B, bands, frames] -> [B, 1, samples] audio in float32, the same each time.

        Magnitudes by least squares (the pseudo-inverse of the filters, negative ones cut), phases by the fast
        Griffin-Lim algorithm (Perraudin, Balazs and Sondergaard 2013) from phases of zero.
        """
        config = self.config
        with torch.autocast(representation.device.type, enabled=False):
            # A full-scale sine has a logarithm of -0.7; an untrained or odd model must not overflow exp().
            mel = (representation.float() * self.std + self.mean).clamp(-20.0, 5.0).exp()
            magnitude = (inverse_mel_filters(*self._inverse(mel)) @ mel).clamp_min(0.0)
            window = torch.hann_window(config.n_fft, device=mel.device)
            # Griffin-Lim counts the frame that is centred on the end; it is like the one before.
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
        return audio[:, : self.samples].unsqueeze(1)

    def _inverse(self, like: Tensor) -> tuple[int, int, int, str]:
        return self.config.bands, self.config.n_fft, self.rate, str(like.device)

    def distances(self, output: Tensor, target: Tensor) -> dict[str, Tensor]:
        """The reconstruction terms of training, each [B], on [B, bands, frames].

        `mse` is on normalised bands; `stft`, a distance of spectra as for the waveform, is the mean absolute
        difference of log-mel in natural-log units (0.115 is 1 dB).
        """
        with torch.autocast(output.device.type, enabled=False):
            output = output.float()
            difference = (output - target) * self.std
            return {"mse": squared_error(output, target), "stft": difference.abs().flatten(1).mean(1)}

    @torch.no_grad()
    def calibrate(self, batches: Iterable[Tensor]) -> None:
        """Takes mean and deviation of each band from audio [B, 1, samples], in float64; no batches change nothing."""
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
