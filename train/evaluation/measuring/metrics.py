"""Measures of reconstructions per chunk, and their exact means over processes."""

import math

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from audiovae.layers.losses import squared_error, stft_distance
from audiovae.layers.representation import mid_side
from audiovae.layers.spectra import log_mel, mel_distance, mel_filters

# A chunk that never exceeds -60 dBFS is silent. Ratios are meaningless for it, so it is counted separately.
SILENT_PEAK = 1e-3
# SI-SDR is undefined for a silent output; it gets this value, which is also the minimum.
SI_SDR_FLOOR_DB = -50.0

# `log_mel_error_high` is of the bands from this frequency up. Mel magnitudes below the floor count as the floor, the
# peak of a sine of -80 dBFS: about the threshold of hearing, if a full-scale sine is played at 80 dB SPL.
HIGH_HZ = 4000.0
HIGH_FLOOR = 0.5e-4

# Keys of the result of `measure`.
MEASURED = ("mse", "cosine", "si_sdr", "stft", "mel", "silent", "not_finite")
# Of stereo there are more, such as `mid_mel`.
CHANNELS = ("left", "right", "mid", "side")
BY_CHANNEL = ("si_sdr", "mel", "level")
# The baseline of stereo that hears the recordings: the mean of the channels on both sides.
MONO_MIX = "mono of the recordings"
# Levels below this count as this one in `level`.
QUIET_DBFS = -80.0
# Measures that are 1 or 0, so their means are shares of all chunks.
SHARES = ("silent", "not_finite")


def si_sdr(output: Tensor, target: Tensor) -> Tensor:
    """Scale-invariant signal-to-distortion ratio in dB, both signals without their means: higher is better.

    The formula is equation 3 of Le Roux et al. 2019, "SDR - half-baked or well done?": 10 log10(|a x|^2 / |a x - y|^2)
    with the scale a = <y, x> / |x|^2. The machine epsilon is added to each sum, which keeps silence finite.

    Args:
        output, target: [B, T] audio; y and x of the formula.

    Returns:
        [B], finite where both inputs are.
    """
    eps = torch.finfo(output.dtype).eps
    target = target - target.mean(dim=-1, keepdim=True)
    output = output - output.mean(dim=-1, keepdim=True)
    scale = ((output * target).sum(-1, keepdim=True) + eps) / ((target**2).sum(-1, keepdim=True) + eps)
    scaled = scale * target
    return 10 * torch.log10(((scaled**2).sum(-1) + eps) / (((scaled - output) ** 2).sum(-1) + eps))


def measure(output: Tensor, target: Tensor, rate: int) -> dict[str, Tensor]:
    """Measures each item of a batch.

    Args:
        output, target: [B, A, T] audio.
        rate: Hz.

    Returns:
        Those of `names_for`, each [B] float32: `mse`, `cosine` in [-1, 1], `si_sdr` in dB from SI_SDR_FLOOR_DB up (Le
        Roux et al. 2019), `stft` (see `audiovae.layers.losses.stft_distance`), `mel` (see
        `audiovae.layers.spectra.mel_distance`), `silent` and `not_finite` 1 or 0. For silent items `cosine` and
        `si_sdr`
        are NaN. Where the output is not finite, all but `silent` and `not_finite` are NaN. Of stereo, they are of both
        channels together, and those of `channel_measures` are there too.
    """
    output, target = output.float(), target.float()
    silent = target.abs().amax((1, 2)) < SILENT_PEAK
    finite = output.isfinite().all(2).all(1)
    output = torch.where(finite[:, None, None], output, torch.nan)
    blank = torch.where(silent, torch.nan, 0.0)
    flat_output, flat_target = output.flatten(1), target.flatten(1)
    ratio = si_sdr(flat_output, flat_target)
    ratio = torch.where(flat_output.abs().amax(1) == 0, SI_SDR_FLOOR_DB, ratio).clamp_min(SI_SDR_FLOOR_DB)
    return {
        "mse": squared_error(output, target),
        "cosine": cosine_similarity(flat_output, flat_target) + blank,
        "si_sdr": ratio + blank,
        "stft": stft_distance(output, target),
        "mel": mel_distance(output, target, rate),
        "silent": silent.float(),
        "not_finite": (~finite).float(),
    } | (channel_measures(output, target, rate) if target.shape[1] == 2 else {})


def names_for(channels: int, shown: tuple[str, ...] = CHANNELS) -> tuple[str, ...]:
    """The keys of the result of `measure` for audio of so many channels, those of `shown` among CHANNELS."""
    return MEASURED if channels == 1 else (*MEASURED, *(f"{c}_{name}" for c in shown for name in BY_CHANNEL))


def channel_measures(output: Tensor, target: Tensor, rate: int) -> dict[str, Tensor]:
    """Measures of left, right, mid and side of stereo [B, 2, T]: [B] each, by names such as `side_mel`.

    `mel` and `si_sdr` are as in `measure`; SI-SDR is NaN where the channel of the target is silent. `level` is the
    level of the output minus that of the target in dB, both at least QUIET_DBFS.
    """
    whole = [torch.cat([audio, mid_side(audio)], 1).flatten(0, 1) for audio in (output, target)]
    mel = mel_distance(whole[0].unsqueeze(1), whole[1].unsqueeze(1), rate)
    ratio = torch.where(whole[0].abs().amax(1) == 0, SI_SDR_FLOOR_DB, si_sdr(*whole)).clamp_min(SI_SDR_FLOOR_DB)
    ratio = torch.where(whole[1].abs().amax(1) < SILENT_PEAK, torch.nan, ratio)
    levels = [10 * audio.square().mean(1).clamp_min(10 ** (QUIET_DBFS / 10)).log10() for audio in whole]
    values = {"si_sdr": ratio, "mel": mel, "level": levels[0] - levels[1]}
    return {
        f"{channel}_{name}": values[name].view(-1, len(CHANNELS))[:, place]
        for place, channel in enumerate(CHANNELS)
        for name in BY_CHANNEL
    }


def log_mel_error_high(output: Tensor, target: Tensor, rate: int) -> Tensor:
    """Mean absolute difference of log-mel bands between 4 kHz and the Nyquist frequency, in natural-log units.

    With L(x) the natural logarithm of the larger of HIGH_FLOOR and the mel magnitude of x, it is the mean of
    |L(output) - L(target)| over all frames, and over those of the 80 bands of
    `audiovae.layers.spectra.mel_distance` that lie wholly above HIGH_HZ: 23 bands at 22,050 Hz. A difference of 1 is
    8.7 dB. The floor keeps what nobody hears from counting. It ignores phase.

    Args:
        output, target: [B, A, T] audio.
        rate: Hz.

    Returns:
        [B] float32, from 0 up; NaN where no band lies above HIGH_HZ.
    """
    n_fft = 1024 if rate <= 32000 else 2048
    filters = mel_filters(80, n_fft, rate, str(output.device))
    bins = torch.arange(filters.shape[1], device=output.device) * rate / n_fft
    high = (filters * (bins < HIGH_HZ)).sum(1) == 0
    if not high.any():
        return torch.full((len(output),), torch.nan, device=output.device)
    both = high.repeat(output.shape[1])
    pair = [log_mel(audio, 80, n_fft, 256, rate)[:, both] for audio in (output, target)]
    first, second = (bands.clamp_min(math.log(HIGH_FLOOR)) for bands in pair)
    return (first - second).abs().flatten(1).mean(1)


def sums_and_counts(measures: dict[str, Tensor]) -> dict[str, Tensor]:
    """For each measure [B], the sum and the number of values that are not NaN: [2]; results of batches can be added."""
    return {
        name: torch.stack([values.nan_to_num().sum(), (~values.isnan()).float().sum()])
        for name, values in measures.items()
    }


def means(sums: dict[str, Tensor]) -> dict[str, float]:
    """Means from added sums and counts; NaN where the count is 0."""
    return {name: (value[0] / value[1]).item() if value[1] else float("nan") for name, value in sums.items()}
