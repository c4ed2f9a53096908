"""A variational autoencoder with Gaussian latents along time (Kingma and Welling 2014)."""

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from audiovae import gaussian
from audiovae.autoencoder import Autoencoder, Output
from audiovae.noise import Noise, fresh_noise
from audiovae.trunk import Decoder, Encoder, TrunkConfig, frames_after, project, silent_head

# The start of the posterior's log variance: narrow enough that the decoder hears the latents from step one.
POSTERIOR_START = -5.0


@dataclass
class VAEConfig:
    """A VAE's shape.

    Attributes:
        trunk: The encoder tower; the decoder mirrors it.
        latent: Latent channels at each latent frame.
        free_nats: KL that a second of audio may spend at no cost, in nats per second.
    """

    trunk: TrunkConfig = field(default_factory=lambda: TrunkConfig([49, 5, 2], [256, 512, 768], 3, 5))
    latent: int = 64
    free_nats: float = 0.0

    def __post_init__(self) -> None:
        if self.latent < 1 or self.free_nats < 0:
            raise ValueError(f"latent is {self.latent} and free_nats {self.free_nats}: at least 1 and 0")


class GaussianEncoder(nn.Module):
    """[B, C, T] -> posterior mean and log variance, each [B, latent, frames]."""

    def __init__(self, inputs: int, config: VAEConfig) -> None:
        super().__init__()
        width = config.trunk.channels[-1]
        self.tower = Encoder(inputs, config.trunk)
        self.mean = project(width, config.latent)
        self.log_variance = silent_head(width, config.latent, POSTERIOR_START)

    def forward(self, target: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log variance in float32."""
        features = self.tower(target)[-1]
        return self.mean(features).float(), gaussian.bounded_log_variance(self.log_variance(features))


class VAE(Autoencoder):
    """Latents [B, latent, frames]: 64 channels at 45 frames a second by default."""

    family = "vae"
    loss_names = ("kl",)

    def __init__(self, config: VAEConfig, samples: int, rate: int) -> None:
        super().__init__(config, samples, rate)
        width = config.trunk.channels[-1]
        self.frames = frames_after(self.representation.frames, config.trunk.strides)[-1]
        self.encoder = GaussianEncoder(self.representation.channels, config)
        self.decoder = nn.Sequential(project(config.latent, width), Decoder(self.representation.channels, config.trunk))

    def forward(self, target: Tensor, noise: Noise | None = None) -> Output:
        """Loss `kl` is in nats per input value, so its weight does not depend on the chunk's length."""
        noise = noise or fresh_noise(len(target), target.device)
        mean, log_variance = self.encoder(target)
        latents = gaussian.draw(mean, log_variance, noise.normal(*mean.shape[1:]))
        kl = gaussian.kl_to_standard(mean, log_variance)
        free = gaussian.with_free_nats(kl, self.config.free_nats * self.seconds)
        metrics = {"kl_nats_per_second": kl.detach().flatten(1).sum(1).mean() / self.seconds}
        return Output(self.decoder(latents), {"kl": free / target[0].numel()}, metrics)

    def encode(self, audio: Tensor) -> Tensor:
        """[B, 1, samples] -> posterior means [B, latent, frames]."""
        return self.encoder(self.represent(audio))[0]

    def decode(self, latents: Tensor) -> Tensor:
        """[B, latent, frames] -> [B, 1, samples]."""
        return self.render(self.decoder(latents))

    def blend(self, first: Tensor, second: Tensor, weight: float) -> Tensor:
        """On the line between two latents [B, latent, frames]."""
        return torch.lerp(first, second, weight)

    @torch.no_grad()
    def sample(self, items: int, temperature: float = 1.0, noise: Noise | None = None) -> Tensor:
        """Decodes latents drawn from N(0, temperature^2): [items, 1, samples]."""
        noise = noise or fresh_noise(items, next(self.parameters()).device)
        return self.decode(temperature * noise.normal(self.config.latent, self.frames))
