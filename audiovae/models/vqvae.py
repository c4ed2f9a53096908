"""A vector-quantised autoencoder with residual codebooks (van den Oord et al. 2017)."""

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from audiovae.layers.noise import Noise, fresh_noise
from audiovae.layers.representation import RepresentationConfig
from audiovae.layers.trunk import Decoder, Encoder, TrunkConfig, frames_after, project
from audiovae.models.autoencoder import Autoencoder
from audiovae.quantizing.quantizer import QuantizerConfig, ResidualQuantizer
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
    """[B, C, T] -> [B, latent, frames]."""

    def __init__(self, inputs: int, config: VQVAEConfig) -> None:
        super().__init__()
        self.tower = Encoder(inputs, config.trunk)
        self.project = project(config.trunk.channels[-1], config.latent)

    def forward(self, target: Tensor) -> Tensor:
        """[B, C, T] -> [B, latent, frames], unquantised."""
        return self.project(self.tower(target)[-1])


class VQVAE(Autoencoder):
    """Latents: codes [B, codebooks, frames] int64; 8 codebooks at 105 frames a second by default."""

    family = "vqvae"
    full_name = "vector-quantised autoencoder"
    loss_names = ("commitment", "anchor", "diversity")

    def __init__(self, config: VQVAEConfig, samples: int, rate: int) -> None:
        super().__init__(config, samples, rate)
        self.frames = frames_after(self.representation.frames, config.trunk.strides)[-1]
        self.encoder = LatentEncoder(self.representation.channels, config)
        self.quantizer = ResidualQuantizer(config.quantizer, config.latent)
        self.decoder = nn.Sequential(
            project(config.latent, config.trunk.channels[-1]),
            Decoder(self.representation.channels, config.trunk),
        )

    @property
    def latent_shapes(self) -> list[tuple[int, int]]:
        """One: [codebooks, frames]."""
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
        """How much farther these codes are from what they stand for than the nearest ones, as a mean square.

        Where two codes are as near, rounding decides between them, and what the next codebooks choose follows from
        it: codes may differ and be as good.
        """
        return self.quantizer.quantization_regret(self.encoder(self.represent(audio)), latents).max()

    def forward(self, target: Tensor, noise: Noise | None = None) -> Output:
        """Losses are those of `Quantized`; noise chooses which vectors are offered to dead codes."""
        self.check_target(target)
        noise = noise or fresh_noise(len(target), target.device)
        quantized = self.quantizer(self.encoder(target), noise)
        recon = self.decoder(quantized.values)
        return Output(recon, quantized.losses, quantized.metrics, quantized.statistics)

    def update(self, statistics: Statistics, step: int) -> None:
        """Moves the codebooks; see `ResidualQuantizer.update`."""
        self.quantizer.update(statistics, step)

    def usage(self) -> dict[str, Tensor]:
        """By codebook, "0" the coarsest, the share of each code by its moving average; empty before they start."""
        if not self.quantizer.quantizing:
            return {}
        counts = self.quantizer.counts
        return {str(q): share for q, share in enumerate(counts / counts.sum(1, keepdim=True))}

    def encode(self, audio: Tensor) -> Tensor:
        """[B, 1, samples] -> codes [B, codebooks, frames] int64."""
        return self.quantizer.encode(self.encoder(self.represent(audio)))

    def decode(self, latents: Tensor) -> Tensor:
        """Codes [B, codebooks, frames] -> [B, 1, samples]."""
        self.check_latents(latents)
        return self.render(self.decoder(self.quantizer.decode(latents)))

    def blend(self, first: Tensor, second: Tensor, weight: float) -> Tensor:
        """Codes [B, codebooks, frames] of the point between two quantised values; at the ends, these codes."""
        if weight in (0, 1):
            return second if weight else first
        return self.quantizer.blend(first, second, weight)

    @torch.no_grad()
    def sample(self, items: int, temperature: float = 1.0, noise: Noise | None = None) -> Tensor:
        """Decodes codes drawn independently by how often each is used: [items, 1, samples].

        A VQ-VAE has no prior of its own: expect texture, not tunes. A temperature above 1 flattens the
        frequencies, below 1 sharpens them.
        """
        noise = noise or fresh_noise(items, self.quantizer.codes.device)
        share = torch.softmax((self.quantizer.counts + 1e-6).log() / max(temperature, 1e-3), dim=1)
        edges = share.cumsum(1)  # [Q, K]
        uniform = 0.5 * (1 + torch.erf(noise.normal(len(edges), self.frames) / 2**0.5))  # [n, Q, T]
        codes = torch.searchsorted(edges, uniform.transpose(0, 1).flatten(1).contiguous())
        codes = codes.clamp_max(share.shape[1] - 1).view(len(edges), items, self.frames).transpose(0, 1)
        return self.decode(codes)
