"""Log-mel spectra in float32, without gradients."""

import functools
import warnings

import torch
from torch import Tensor
from torchaudio.functional import melscale_fbanks

from audiovae.layers.losses import MAGNITUDE_FLOOR


@functools.lru_cache(maxsize=16)
def mel_filters(bands: int, n_fft: int, rate: int, device: str = "cpu") -> Tensor:
    """Triangular filters on Slaney's mel scale, whose rows add up to 1: [bands, n_fft / 2 + 1].

    Slaney's scale is linear below 1 kHz. On HTK's scale, many of 256 bands would fall between the bins of an FFT of
    2048 samples and be empty. A row that adds up to 1 gives a mean of magnitudes, so the floor is the same for every
    band. The filters are not a buffer, because they follow from the settings.

    Raises:
        ValueError: if a band would be empty.
    """
    with torch.device("cpu"), torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about empty bands, which are an error below
        filters = melscale_fbanks(n_fft // 2 + 1, 0.0, rate / 2, bands, rate, None, "slaney").T
        total = filters.sum(1, keepdim=True)
        if not bool((total > 0).all()):
            raise ValueError(f"{bands} mel bands leave some empty with an FFT of {n_fft}: use fewer or a longer FFT")
        return (filters / total).to(device)


@functools.lru_cache(maxsize=4)
def inverse_mel_filters(bands: int, n_fft: int, rate: int, device: str = "cpu") -> Tensor:
    """The pseudo-inverse of `mel_filters`: [n_fft / 2 + 1, bands].

    torchaudio's InverseMelScale solves this problem again for each input; here it is solved once.
    """
    return torch.linalg.pinv(mel_filters(bands, n_fft, rate)).to(device)


@torch.no_grad()
def log_mel(audio: Tensor, bands: int, n_fft: int, hop: int, rate: int) -> Tensor:
    """Natural logarithms of mel magnitudes.

    Frame i is centred on sample i * hop. Magnitudes are scaled so that a full-scale sine peaks at 0.5, with the same
    floor as in `audiovae.layers.losses.stft_magnitude`.

    Args:
        audio: [B, C, T], any float type.
        bands: Number of mel bands.
        n_fft: FFT and Hann window in samples.
        hop: Samples between frames.
        rate: Sample rate in Hz.

    Returns:
        [B, C * bands, 1 + T // hop] float32: the bands of the first channel, then those of the next.
    """
    with torch.autocast(audio.device.type, enabled=False):
        window = torch.hann_window(n_fft, device=audio.device)
        spectrum = torch.stft(
            audio.float().flatten(0, 1), n_fft, hop, window=window, return_complex=True, pad_mode="constant"
        )
        filters = mel_filters(bands, n_fft, rate, str(audio.device))
        found = (filters @ (spectrum.abs() / window.sum())).clamp_min(MAGNITUDE_FLOOR).log()
        return found.unflatten(0, (-1, audio.shape[1])).flatten(1, 2)


def mel_distance(output: Tensor, target: Tensor, rate: int) -> Tensor:
    """Mean absolute difference of 80-band log-mel spectra, in natural-log units: [B, C, T] twice -> [B].

    As in Kong, Kim and Bae 2020 ("HiFi-GAN", equation 3), with windows of 46 ms at 22,050 Hz. It ignores phase, so
    it is fair to outputs whose phases are synthetic.
    """
    shape = (80, 1024 if rate <= 32000 else 2048, 256, rate)
    difference = log_mel(output, *shape) - log_mel(target, *shape)
    return difference.abs().flatten(1).mean(1)
