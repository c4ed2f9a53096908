"""A vector-quantised autoencoder with residual codebooks (van den Oord et al. 2017)."""

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from audiovae.layers.noise import Noise, fresh_noise
from audiovae.layers.representation import RepresentationConfig
from audiovae.layers.trunk import Decoder, Encoder, Signal, TrunkConfig, frames_after, project
from audiovae.models.autoencoder import Autoencoder
from audiovae.quantizing.quantizer import QuantizerConfig
from audiovae.quantizing.residual_quantizer import ResidualQuantizer
from audiovae.results import Output, Statistics


@dataclass
class VQVAEConfig:
    """Architecture of a VQ-VAE.

    Attributes:
        trunk: The encoder; the decoder mirrors it.
        latent: Dimension of the vectors that are quantised.
        quantizer: Codebooks and commitment loss.
        representation: Input of the trunk: the waveform, or its mel spectrogram.
    """

    trunk: TrunkConfig = field(default_factory=lambda: TrunkConfig([42, 5], [256, 512], 3, 5))
    latent: int = 64
    quantizer: QuantizerConfig = field(default_factory=QuantizerConfig)
    representation: RepresentationConfig = field(default_factory=RepresentationConfig)

    def __post_init__(self) -> None:
        if self.latent < 1:
            raise ValueError(f"latent is {self.latent}: at least 1")


class LatentEncoder(nn.Module):
    """The encoder before quantization: [B, C, T] -> [B, latent, frames]."""

    def __init__(self, inputs: int, config: VQVAEConfig, signal: Signal) -> None:
        super().__init__()
        self.tower = Encoder(inputs, config.trunk, signal)
        self.project = project(config.trunk.channels[-1], config.latent)

    def forward(self, target: Tensor) -> Tensor:
        """[B, C, T] -> [B, latent, frames]."""
        return self.project(self.tower(target)[-1])


class VQVAE(Autoencoder):
    """Latents are codes [B, codebooks, frames] int64: 8 codebooks at 105 frames a second by default."""

    family = "vqvae"
    full_name = "vector-quantised autoencoder"
    training_only = tuple(f"quantizer.{name}" for name in ResidualQuantizer.TRAINING_ONLY)
    loss_names = ("commitment", "anchor", "diversity")

    def __init__(self, config: VQVAEConfig, samples: int, rate: int) -> None:
        super().__init__(config, samples, rate)
        self.frames = frames_after(self.representation.frames, config.trunk.strides)[-1]
        channels, signal = self.representation.channels, self.representation.signal
        self.encoder = LatentEncoder(channels, config, signal)
        self.quantizer = ResidualQuantizer(config.quantizer, config.latent)
        self.decoder = nn.Sequential(
            project(config.latent, config.trunk.channels[-1]),
            Decoder(channels, config.trunk, signal),
        )

    @property
    def latent_shapes(self) -> list[tuple[int, int]]:
        """A single entry (codebooks, frames)."""
        return [(self.config.quantizer.codebooks, self.frames)]

    @property
    def code_size(self) -> int:
        """Codes in each codebook."""
        return self.config.quantizer.size

    @property
    def ready(self) -> bool:
        """Whether the codebooks have started."""
        return self.quantizer.quantizing

    def disagreement(self, audio: Tensor, latents: Tensor) -> Tensor:
        """How much worse these codes are than the best ones: the largest `quantization_regret`, a mean square.

        Rounding decides between two codes that are equally near, and the next codebooks depend on that choice. So codes
        that differ may be equally good.
        """
        return self.quantizer.quantization_regret(self.encoder(self.represent(audio)), latents).max()

    def forward(self, target: Tensor, noise: Noise | None = None) -> Output:
        """Losses are those of `Quantized`. The noise draws codebook dropout and candidates for dead codes."""
        self.check_target(target)
        noise = noise or fresh_noise(len(target), target.device)
        quantized = self.quantizer(self.encoder(target), noise)
        recon = self.decoder(quantized.values)
        return Output(recon, quantized.losses, quantized.metrics, quantized.statistics)

    def update(self, statistics: Statistics, step: int) -> None:
        """Updates the codebooks, see `ResidualQuantizer.update`."""
        self.quantizer.update(statistics, step)

    def usage(self) -> dict[str, Tensor]:
        """The share of each code, [size] by codebook name, "0" being the coarsest; empty before the codebooks start."""
        if not self.quantizer.quantizing:
            return {}
        counts = self.quantizer.counts
        return {str(q): share for q, share in enumerate(counts / counts.sum(1, keepdim=True))}

    def code_use(self) -> Tensor:
        """The running counts of the codes in training, [codebooks, size]."""
        return self.quantizer.counts

    def encode(self, audio: Tensor) -> Tensor:
        """[B, 1, samples] -> codes [B, codebooks, frames] int64."""
        return self.quantizer.encode(self.encoder(self.represent(audio)))

    def decode(self, latents: Tensor) -> Tensor:
        """Codes [B, codebooks, frames] -> [B, 1, samples]."""
        self.check_latents(latents)
        return self.render(self.decoder(self.quantizer.decode(latents)))

    def blend(self, first: Tensor, second: Tensor, weight: float) -> Tensor:
        """Codes [B, codebooks, frames] of the interpolated quantized values; at the ends, the given codes."""
        if weight in (0, 1):
            return second if weight else first
        return self.quantizer.blend(first, second, weight)

    def _sample(self, items: int, temperature: float, noise: Noise | None) -> Tensor:
        """Decodes codes sampled independently with their frequencies of use: [items, 1, samples].

        A VQ-VAE has no learned prior, so expect texture rather than melody. A temperature above 1 flattens the
        frequencies, one below 1 sharpens them.
        """
        noise = noise or fresh_noise(items, self.quantizer.codes.device)
        share = torch.softmax((self.quantizer.counts + 1e-6).log() / max(temperature, 1e-3), dim=1)
        edges = share.cumsum(1)  # [Q, K]
        uniform = 0.5 * (1 + torch.erf(noise.normal(len(edges), self.frames) / 2**0.5))  # [n, Q, T]
        codes = torch.searchsorted(edges, uniform.transpose(0, 1).flatten(1).contiguous())
        codes = codes.clamp_max(share.shape[1] - 1).view(len(edges), items, self.frames).transpose(0, 1)
        return self.decode(codes)
