"""Which presets of `python -m train` can be trained on chunks of a given length and rate.

The builder says it at the end of a build, and must not import the models. So what decides it is repeated here; a test
compares it with the presets and their models.
"""

import math
from dataclasses import dataclass

from shards.audio.rates import HIGHEST


@dataclass(frozen=True)
class Rule:
    """What a preset asks of a chunk.

    Attributes:
        strides: The product of its strides; it must divide the frames of a chunk.
        hold: Latent frames that share the levels of the upper bands; it must divide the latent frames of a chunk.
        hop: Samples from one frame to the next; 1 for a waveform.
        multiple: The frames are rounded up to a multiple of this.
        n_fft: Length of the FFT in samples; 0 for a waveform.
        highest_rate: Hz. At a higher one, some of the mel bands would be empty.
        lowest_rate: Hz. It can be trained at a lower one, and is not made for that.
    """

    strides: int
    hop: int = 1
    multiple: int = 1
    n_fft: int = 0
    highest_rate: int = HIGHEST
    hold: int = 1
    lowest_rate: int = 0

    def fits(self, samples: int, rate: int) -> bool:
        """Whether the preset's model takes chunks of `samples` samples at `rate` Hz."""
        frames = math.ceil(math.ceil(samples / self.hop) / self.multiple) * self.multiple
        padding = frames * self.hop - samples
        return (
            samples > self.n_fft // 2
            and padding <= samples
            and frames % (self.strides * self.hold) == 0
            and self.lowest_rate <= rate <= self.highest_rate
        )


_RATE_256, _RATE_80 = 71_131, 127_069  # Hz: of 256 bands with an FFT of 2,048, and of 80 with one of 1,024
_WIDE = 32_000  # Hz, of presets for 44.1 and 48 kHz
RULES = {
    "hvae": Rule(210 * 3 * 5 * 7),
    "hvae_44k": Rule(420 * 3 * 5 * 7, lowest_rate=_WIDE),
    "hvae_44k_tiny": Rule(420 * 3 * 5 * 7, lowest_rate=_WIDE),
    "hvae_48k": Rule(400 * 4 * 5 * 6, lowest_rate=_WIDE),
    "hvae_48k_tiny": Rule(400 * 4 * 5 * 6, lowest_rate=_WIDE),
    "hvae_mel_tiny": Rule(2 * 3 * 5, hop=245, n_fft=2048, highest_rate=_RATE_256),
    "hvae_tiny": Rule(210 * 3 * 5 * 7),
    "study/batchnorm_vae": Rule(98 * 5),
    "study/mel_vae": Rule(3 * 3, hop=256, multiple=9, n_fft=2048, highest_rate=_RATE_256),
    "study/pooled_vae": Rule(98 * 5),
    "study/single_vqvae": Rule(70 * 3),
    "study/spectrogram_vae": Rule(3 * 3, hop=245, n_fft=1024, highest_rate=_RATE_80),
    "study/two_level_hvae": Rule(70 * 3 * 5),
    "vae": Rule(98 * 5),
    "vae_44k": Rule(196 * 5, lowest_rate=_WIDE),
    "vae_44k_tiny": Rule(196 * 5, lowest_rate=_WIDE),
    "vae_48k": Rule(200 * 5, lowest_rate=_WIDE),
    "vae_48k_tiny": Rule(200 * 5, lowest_rate=_WIDE),
    "vae_causal_tiny": Rule(98 * 5),
    "vae_codec_tiny": Rule(210, hold=3),
    "vae_mel_tiny": Rule(2, hop=245, n_fft=2048, highest_rate=_RATE_256),
    "vae_tiny": Rule(98 * 5),
    "vqvae": Rule(70 * 3, hold=3),
    "vqvae_44k": Rule(140 * 3, hold=3, lowest_rate=_WIDE),
    "vqvae_44k_tiny": Rule(140 * 3, hold=3, lowest_rate=_WIDE),
    "vqvae_48k": Rule(160 * 3, hold=4, lowest_rate=_WIDE),
    "vqvae_48k_tiny": Rule(160 * 3, hold=4, lowest_rate=_WIDE),
    "vqvae_codes": Rule(70 * 3),
    "vqvae_mel_tiny": Rule(2, hop=245, n_fft=2048, highest_rate=_RATE_256),
    "vqvae_tiny": Rule(70 * 3, hold=3),
}


def fitting_presets(samples: int, rate: int = 22050) -> list[str]:
    """Names of the presets, for `train --config`, whose models take chunks of `samples` samples at `rate` Hz."""
    return [name for name, rule in RULES.items() if rule.fits(samples, rate)]
