"""A variational autoencoder with Gaussian latents per frame or per chunk (Kingma and Welling 2014)."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from audiovae.layers import gaussian
from audiovae.layers.latent_prior import LatentPrior, LatentPriorConfig, make_latent_prior
from audiovae.layers.latent_scale import Scale, ScaledLatents, check_scaling, make_latent_scale
from audiovae.layers.level_latents import GaussianLevels
from audiovae.layers.levels import BandLevels, LevelsConfig
from audiovae.layers.losses import squared_error
from audiovae.layers.noise import Noise, fresh_noise
from audiovae.layers.representation import RepresentationConfig
from audiovae.layers.trunk import Decoder, Encoder, Signal, TrunkConfig, frames_after, project, silent_head
from audiovae.models.autoencoder import Autoencoder, Choice
from audiovae.results import Output, Statistics

# Initial log variance of the posterior: low enough for the decoder to use the latents from the first step.
POSTERIOR_START = -5.0
# Decay per step of the running estimates under batch_norm; low enough to follow an encoder that is learning.
NORM_DECAY = 0.9
# Lower bound of log sigma under learned_variance, which an exact decoder would drive to minus infinity.
MIN_LOG_SIGMA = -6.0


@dataclass
class VAEConfig:
    """Architecture of a VAE.

    Attributes:
        trunk: The encoder; the decoder mirrors it.
        latent: Latent channels of each latent frame.
        free_nats: KL divergence without a penalty, in nats per second of audio.
        representation: Input of the trunk: the waveform, or its mel spectrogram.
        pooled: Use one latent vector for each chunk: features are averaged over time, and a learned layer spreads
            the latent over time again.
        batch_norm: Normalize the posterior means of each latent channel to a standard deviation of batch_norm_scale
            over the data, so that the KL divergence has a lower bound (Zhu et al. 2020, "BN-VAE").
        batch_norm_scale: Standard deviation of the posterior means with batch_norm.
        learned_variance: Add the loss term `likelihood`, with a learned standard deviation of the output (Rybkin,
            Daniilidis and Levine 2021, "sigma-VAE"). If weights.likelihood and weights.kl are 1, and the other
            weights and free_nats 0, the loss is the negative ELBO up to a constant.
        levels: Levels of the upper bands as further latent channels, for models of waveforms with latents along time.
        scale_by_levels: Whether the levels of the bands set the scale of the other latents, which are then relative to
            it, and of their noise. Needs levels.bands, best from levels.lowest 0 up, and suits as many latents as the
            product of trunk.strides.
        start_snr: Signal-to-noise ratio in dB at which these latents begin with scale_by_levels, for a band as loud as
            white noise at the level of the trunk; representation.masking says how it falls with the level.
        prior: The distribution of latents that the KL divergence is measured against.
    """

    trunk: TrunkConfig = field(default_factory=lambda: TrunkConfig([49, 5, 2], [256, 512, 768], 3, 5))
    latent: int = 64
    free_nats: float = 0.0
    representation: RepresentationConfig = field(default_factory=RepresentationConfig)
    pooled: bool = False
    batch_norm: bool = False
    batch_norm_scale: float = 0.5
    learned_variance: bool = False
    levels: LevelsConfig = field(default_factory=LevelsConfig)
    scale_by_levels: bool = False
    start_snr: float = 15.0
    prior: LatentPriorConfig = field(default_factory=LatentPriorConfig)

    def __post_init__(self) -> None:
        self.levels.check(self.representation.kind, self.pooled)
        self.trunk.check(self.representation.kind, self.pooled)
        if self.latent < 1 or self.free_nats < 0:
            raise ValueError(f"latent is {self.latent} and free_nats {self.free_nats}: at least 1 and 0")
        if self.batch_norm_scale <= 0:
            raise ValueError(f"batch_norm_scale is {self.batch_norm_scale}: above 0")
        check_scaling(self.scale_by_levels, self.start_snr, self.levels, self.trunk)
        if self.scale_by_levels and self.batch_norm:
            raise ValueError("scale_by_levels and batch_norm both set the scale of latents; choose one of them")


class RunningNorm(nn.Module):
    """Batch normalisation of posterior means [B, D, T] with a fixed scale and a learned shift.

    It normalises by running estimates, which each step updates with the sums of the whole global batch. So the output
    of an item does not depend on the other items, on processes or on micro-batches.

    Attributes:
        frozen: Whether `update` leaves the estimates as they are.
    """

    frozen = False

    def __init__(self, channels: int, scale: float) -> None:
        super().__init__()
        self.scale = scale
        self.shift = nn.Parameter(torch.zeros(channels, 1))
        self.mean = nn.Buffer(torch.zeros(channels))
        self.variance = nn.Buffer(torch.ones(channels))
        self.updates = nn.Buffer(torch.zeros(()))

    def forward(self, raw: Tensor) -> Tensor:
        """[B, D, T] float32 -> [B, D, T], each channel with mean `shift` and standard deviation of about `scale`."""
        deviation = (self.variance + 1e-5).sqrt().unsqueeze(1)
        return self.shift + self.scale * (raw - self.mean.unsqueeze(1)) / deviation

    def sums(self, raw: Tensor) -> dict[str, Tensor]:
        """Sums over [B, D, T] for the estimates, relative to the current mean to keep float32 accurate."""
        raw = raw.detach() - self.mean.unsqueeze(1)
        count = raw.new_full((), raw.shape[0] * raw.shape[2])  # `new_tensor` would wait for a GPU
        return {"count": count, "total": raw.sum((0, 2)), "squares": raw.square().sum((0, 2))}

    @torch.no_grad()
    def update(self, sums: dict[str, Tensor]) -> None:
        """Updates the estimates; the first batch sets them. Sums that are not finite change nothing."""
        if self.frozen:
            return
        finite = torch.stack([value.isfinite().all() for value in sums.values()]).all()
        count = sums["count"].clamp_min(1)
        offset = sums["total"] / count
        variance = (sums["squares"] / count - offset.square()).clamp_min(0.0)
        share = torch.where(self.updates > 0, 1 - NORM_DECAY, 1.0) * finite
        self.mean.add_(share * offset.nan_to_num(0.0, 0.0, 0.0))
        self.variance.add_(share * (variance.nan_to_num(0.0, 0.0, 0.0) - self.variance))
        self.updates.add_(finite)


class Likelihood(nn.Module):
    """The negative log-likelihood of a target under a Gaussian around the output, with one learned sigma.

    It is a module with a forward pass, because ZeRO gathers parameters by module.
    """

    def __init__(self) -> None:
        super().__init__()
        self.log_sigma = nn.Parameter(torch.zeros(1))

    def forward(self, output: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """(mse / sigma^2 + log sigma^2) / 2 in nats per input value without the constant, [B]; and sigma, [].

        Rybkin, Daniilidis and Levine 2021, equation 4; log sigma is softly bounded below as in their appendix.
        """
        log_sigma = MIN_LOG_SIGMA + nn.functional.softplus(self.log_sigma.float() - MIN_LOG_SIGMA)
        nats = 0.5 * squared_error(output.float(), target) * (-2 * log_sigma).exp() + log_sigma
        return nats, log_sigma.detach().exp().squeeze()


class GaussianEncoder(nn.Module):
    """[B, C, T] -> posterior mean and log variance, each [B, latent, frames]; one frame if pooled.

    With scale_by_levels there is no log variance, and the mean is still to be brought to the scale of the levels.
    """

    def __init__(self, inputs: int, config: VAEConfig, signal: Signal) -> None:
        super().__init__()
        width = config.trunk.channels[-1]
        self.pooled = config.pooled
        self.tower = Encoder(inputs, config.trunk, signal)
        self.mean = project(width, config.latent, config.trunk.causal)
        self.log_variance = None if config.scale_by_levels else silent_head(width, config.latent, POSTERIOR_START)

    def forward(self, target: Tensor) -> tuple[Tensor, Tensor | None]:
        """Mean and log variance in float32."""
        features = self.tower(target)[-1]
        if self.pooled:
            features = features.mean(2, keepdim=True)
        mean = self.mean(features).float()
        return mean, None if self.log_variance is None else gaussian.bounded_log_variance(self.log_variance(features))


class Posterior(NamedTuple):
    """The posterior of all latents of a VAE.

    Attributes:
        mean, log_variance: [B, channels, frames] each.
        levels: The measured levels [B, bands, frames]; None without levels.
        decoded: With scale_by_levels, the levels that the chosen latents give, and the scale by them.
    """

    mean: Tensor
    log_variance: Tensor
    levels: Tensor | None = None
    decoded: tuple[Tensor, Scale] | None = None


class VAE(Autoencoder):
    """Latents are [B, latent, frames]: 64 channels at 45 frames a second by default."""

    family = "vae"
    full_name = "variational autoencoder"
    synthesis = ("decoder", "likelihood", "prior")

    def __init__(self, config: VAEConfig, samples: int, rate: int, audio_channels: int = 1) -> None:
        super().__init__(config, samples, rate, audio_channels)
        width, channels = config.trunk.channels[-1], self.representation.channels
        signal = self.representation.signal
        frames = frames_after(self.representation.frames, config.trunk.strides)[-1]
        self.frames = 1 if config.pooled else frames
        self.loss_names = ("kl", *["likelihood"] * config.learned_variance, *["levels"] * bool(config.levels.bands))
        self.encoder = GaussianEncoder(channels, config, signal)
        # A pooled latent becomes all frames, each with its own weights.
        if config.pooled:
            enter: nn.Module = nn.ConvTranspose1d(config.latent, width, frames)
        else:
            enter = project(config.latent, width, config.trunk.causal)
        self.decoder = nn.Sequential(enter, Decoder(channels, config.trunk, signal))
        self.norm = RunningNorm(config.latent, config.batch_norm_scale) if config.batch_norm else None
        self.likelihood = Likelihood() if config.learned_variance else None
        self.level_latents: GaussianLevels | None = None
        if config.levels.bands:
            frames, causal = config.levels.frames(self.frames), config.trunk.causal
            self.levels = BandLevels(config.levels, samples, frames, rate, causal, audio_channels)
            self.level_latents = GaussianLevels(self.all_levels, causal)
        self.scaled: ScaledLatents | None = None
        if config.scale_by_levels:
            scale = make_latent_scale(config, config.latent, self.frames, cast(BandLevels, self.levels), rate)
            self.scaled = ScaledLatents(scale, self.all_levels.bands)
        self.prior: LatentPrior | None = make_latent_prior(config.prior, self.channels)

    @property
    def channels(self) -> int:
        """Latent channels of a frame: those of the trunk, then those of the levels."""
        return self.config.latent + self.all_levels.channels

    @property
    def latent_shapes(self) -> list[tuple[int, int]]:
        """A single entry (latent and those of the levels, frames)."""
        return [(self.channels, self.frames)]

    def forward(self, target: Tensor, noise: Noise | None = None) -> Output:
        """Losses are in nats per input value, so their weights do not depend on the chunk length.

        The losses are `kl`, at least the free nats, `likelihood` under learned_variance, and `levels`, the mean
        squared error of the normalised levels, if latents carry levels.
        """
        self.check_target(target)
        noise = noise or fresh_noise(len(target), target.device)
        own = self.encoder(target)
        statistics = Statistics()
        if self.norm is not None and self.training:
            statistics = Statistics(sums=self.norm.sums(own[0]))
        normal = noise.normal(self.channels, self.frames)
        mean, log_variance, levels, decoded = self._whole_posterior(target, own, normal)
        latents = gaussian.draw(mean, log_variance, normal)
        recon, found = self._synthesize(latents, noise, decoded)
        kl = self._divergence(mean, log_variance, latents)
        free = gaussian.with_free_nats(kl, self.config.free_nats * self.seconds)
        losses = {"kl": free / target[0].numel()}
        metrics = {"kl_nats_per_second": kl.detach().mean() / self.seconds}
        if self.likelihood is not None:
            losses["likelihood"], metrics["sigma"] = self.likelihood(recon, target)
        if levels is not None and found is not None:
            losses["levels"] = squared_error(found, levels)
        return Output(recon, losses, metrics, statistics)

    def _divergence(self, mean: Tensor, log_variance: Tensor, drawn: Tensor) -> Tensor:
        """KL divergence of the posterior from the prior in nats, [B, 1]; exact for N(0, I), else by a draw."""
        if self.prior is None:
            return gaussian.kl_to_standard(mean, log_variance).flatten(1).sum(1, keepdim=True)
        return self.prior.divergence(log_variance, drawn).unsqueeze(1)

    def update(self, statistics: Statistics, step: int) -> None:
        """Updates the running estimates of batch_norm."""
        if self.norm is not None:
            self.norm.update(statistics.sums)

    def _whole_posterior(
        self, target: Tensor, encoded: tuple[Tensor, Tensor | None], normal: Tensor | None = None
    ) -> Posterior:
        """The posterior of all latents.

        Args:
            target: The representation [B, C, T].
            encoded: What the encoder makes of it.
            normal: The normal numbers [B, channels, frames] that draw the latents, for the scale of drawn levels; None
                for their means.
        """
        mean, log_variance = encoded
        if self.norm is not None:
            mean = self.norm(mean)
        if self.levels is None or self.level_latents is None:
            return Posterior(mean, cast(Tensor, log_variance))
        levels = self.levels.measure(target)
        own = self.level_latents.encode(levels)
        decoded = None
        if self.scaled is not None:
            chosen = own[0] if normal is None else gaussian.draw(*own, normal[:, self.config.latent :])
            decoded = self._decode_levels(chosen)
            mean, log_variance = decoded[1].relative(mean), decoded[1].ratio
        both = torch.cat([mean, own[0]], 1), torch.cat([cast(Tensor, log_variance), own[1]], 1)
        return Posterior(*both, levels, decoded)

    def _decode_levels(self, latents: Tensor) -> tuple[Tensor, Scale]:
        """Levels [B, bands, frames] from their latents, and the scale that they give, with scale_by_levels."""
        levels = cast(GaussianLevels, self.level_latents).decode(latents)
        scaled, bands = cast(ScaledLatents, self.scaled), cast(BandLevels, self.levels)
        return levels, scaled(levels, bands.power_of(levels), self.encoder.tower.whitening)

    def _synthesize(
        self, latents: Tensor, noise: Noise | None = None, decoded: tuple[Tensor, Scale] | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """[B, channels, frames] -> the representation [B, C, T], and the levels of these latents, if there are any.

        `decoded` is what `_decode_levels` gives for these latents, if it is known.
        """
        own, levels = self._of_trunk(latents, decoded)
        if self.levels is None or levels is None:
            return self.decoder(own), None
        return self.levels.fill(self.decoder(own), levels, noise), levels

    def _of_trunk(self, latents: Tensor, decoded: tuple[Tensor, Scale] | None = None) -> tuple[Tensor, Tensor | None]:
        """The decoder's input [B, latent, frames], at its scale, and the levels of these latents, if there are any."""
        own, of_levels = latents.tensor_split([self.config.latent], dim=1)
        if self.level_latents is None:
            return own, None
        if self.scaled is None:
            return own, self.level_latents.decode(of_levels)
        levels, scale = decoded or self._decode_levels(of_levels)
        return own * (0.5 * scale.log_variance).exp(), levels

    def disagreement(self, audio: Tensor, latents: Tensor) -> Tensor:
        """See `Autoencoder`. With scale_by_levels, the distance of the decoder's inputs.

        Relative to their own scale, latents of quiet bands differ by the rounding of loud ones. A model that streams
        takes the levels here as if silence came before.
        """
        if self.scaled is None:
            return super().disagreement(audio, latents)
        pairs = zip(self._of_trunk(self.encode(audio)), self._of_trunk(latents), strict=True)
        return torch.stack([(cast(Tensor, own) - cast(Tensor, other)).abs().max() for own, other in pairs]).max()

    def encode(self, audio: Tensor) -> Tensor:
        """[B, A, samples] -> posterior means [B, channels, frames]."""
        target = self.represent(audio)
        return self._whole_posterior(target, self.encoder(target)).mean

    @torch.no_grad()
    def divergences(self, audio: Tensor, noise: Noise) -> Tensor:
        """[B, A, samples] -> [B, 1] nats."""
        target = self.represent(audio)
        draws = self.prior is not None or self.scaled is not None
        normal = noise.normal(self.channels, self.frames) if draws else None
        mean, log_variance, *_ = self._whole_posterior(target, self.encoder(target), normal)
        drawn = mean if self.prior is None else gaussian.draw(mean, log_variance, cast(Tensor, normal))
        return self._divergence(mean, log_variance, drawn)

    def encode_relative(self, audio: Tensor, choose: Choice) -> list[Tensor]:
        """See `Autoencoder`. These values are the latents themselves, relative to N(0, I) whatever the prior is.

        The tables of the entropy coder follow the spread of each channel. With scale_by_levels the latents of the trunk
        are in units of the posterior's deviation instead; those of the levels are chosen first, as they set the scale.
        """
        target = self.represent(audio)
        own = self.encoder(target)
        if self.scaled is None or self.levels is None or self.level_latents is None:
            return [choose(0, *self._whole_posterior(target, own)[:2])]
        mean, log_variance = self.level_latents.encode(self.levels.measure(target))
        one = torch.zeros_like(own[0])  # the log variance in these units, and a value that is not used
        latent = self.config.latent
        log_variance = torch.cat([one, log_variance], 1)
        of_levels = choose(0, torch.cat([one, mean], 1), log_variance)[:, latent:]
        _, scale = self._decode_levels(of_levels)
        relative = torch.cat([scale.relative(own[0]) / scale.noise, mean], 1)
        return [torch.cat([choose(0, relative, log_variance)[:, :latent], of_levels], 1)]

    def decode_relative(self, values: Sequence[Tensor]) -> Tensor:
        """[B, channels, frames] of the single level -> [B, A, samples]."""
        if self.scaled is None:
            return self.decode(values[0])
        of_trunk, of_levels = values[0].tensor_split([self.config.latent], dim=1)
        _, scale = self._decode_levels(of_levels)
        return self.decode(torch.cat([of_trunk * scale.noise, of_levels], 1))

    def decode(self, latents: Tensor) -> Tensor:
        """[B, channels, frames] -> [B, A, samples]."""
        self.check_latents(latents)
        return self.render(self._synthesize(latents)[0])

    def blend(self, first: Tensor, second: Tensor, weight: float) -> Tensor:
        """Linear interpolation between latents [B, channels, frames]."""
        return torch.lerp(first, second, weight)

    def _sample(self, items: int, temperature: float, noise: Noise | None) -> Tensor:
        """Decodes latents sampled from the prior, of which `temperature` scales the deviation: [items, A, samples]."""
        noise = noise or fresh_noise(items, next(self.parameters()).device)
        if self.prior is None:
            return self.decode(temperature * noise.normal(self.channels, self.frames))
        return self.decode(self.prior.sample(noise, self.frames, temperature))
