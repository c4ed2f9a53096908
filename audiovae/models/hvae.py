"""A hierarchical VAE: top-down inference with learned conditional priors.

The posterior q(z_l | x, z_>l) and the prior p(z_l | z_>l) share the top-down network (Sonderby et al. 2016, "Ladder
VAE"; Child 2021, "Very Deep VAEs"). The posterior is parameterized relative to the prior (Vahdat and Kautz 2020,
"NVAE").
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import cast

import torch
from torch import Tensor, nn

from audiovae.layers import gaussian
from audiovae.layers.latent_scale import LatentScale, Scale, check_scaling, make_latent_scale
from audiovae.layers.level_latents import LevelPyramid
from audiovae.layers.levels import BandLevels, LevelsConfig
from audiovae.layers.losses import squared_error
from audiovae.layers.noise import Noise, fresh_noise
from audiovae.layers.representation import RepresentationConfig
from audiovae.layers.trunk import (
    Decoder,
    Encoder,
    Signal,
    TrunkConfig,
    frames_after,
    upsample,
)
from audiovae.models.autoencoder import Autoencoder, Choice
from audiovae.models.level_start import start_with_levels
from audiovae.models.top_down import Balance, LearnedStart, Level, ScaledLevel, TopDownLevel
from audiovae.results import Output, Partial, Statistics


@dataclass
class HVAEConfig:
    """Architecture of an HVAE. Lists over levels run from the finest level to the coarsest.

    Attributes:
        trunk: The encoder from the waveform to the finest level; the decoder mirrors it.
        level_strides: Downsampling from each level to the next coarser one; one entry fewer than levels.
        level_channels: Channels of each level above the finest; one entry fewer than levels.
        latents: Latent channels of each level; the length of the list is the number of levels, 2 to 4.
        free_nats: KL divergence of each level without a penalty, in nats per second. It is divided equally among the
            level's channels, which keeps all of them in use.
        balance_steps: Optimizer steps during which levels with a small KL divergence get a small KL weight (see
            `Balance`); 0 means none.
        representation: Input of the trunk: the waveform, or its mel spectrogram.
        levels: Levels of the upper bands in the latents above the finest level, for models of waveforms. The settings
            `latents` and `hold` have no effect here.
        scale_by_levels: Whether the levels of the bands set the scale of the finest latents and of their noise. Needs
            levels.bands, best from levels.lowest 0 up, and suits as many latents as the product of trunk.strides.
        start_snr: Signal-to-noise ratio in dB at which the finest latents begin with scale_by_levels, for a band as
            loud as white noise at the level of the trunk; representation.masking says how it falls with the level.
    """

    trunk: TrunkConfig = field(default_factory=lambda: TrunkConfig([42, 5], [256, 512], 3, 5))
    level_strides: list[int] = field(default_factory=lambda: [3, 5, 7])
    level_channels: list[int] = field(default_factory=lambda: [512, 512, 512])
    latents: list[int] = field(default_factory=lambda: [48, 32, 32, 32])
    free_nats: list[float] = field(default_factory=lambda: [0.0, 20.0, 10.0, 2.0])
    balance_steps: int = 0
    representation: RepresentationConfig = field(default_factory=RepresentationConfig)
    levels: LevelsConfig = field(default_factory=LevelsConfig)
    scale_by_levels: bool = False
    start_snr: float = 15.0

    def __post_init__(self) -> None:
        self.levels.check(self.representation.kind)
        self.trunk.check(self.representation.kind)
        levels = len(self.latents)
        if not 2 <= levels <= 4:
            raise ValueError(f"latents has {levels} levels: an HVAE has 2 to 4")
        for name, wanted in (
            ("level_strides", levels - 1),
            ("level_channels", levels - 1),
            ("free_nats", levels),
        ):
            if len(getattr(self, name)) != wanted:
                raise ValueError(f"{name} has {len(getattr(self, name))} entries: {levels} levels need {wanted}")

        if min(self.latents) < 1 or min(self.level_channels) < 1 or min(self.free_nats) < 0:
            raise ValueError("latents and level_channels are at least 1, free_nats at least 0")
        check_scaling(self.scale_by_levels, self.start_snr, self.levels, self.trunk)
        if self.balance_steps < 0:
            raise ValueError(f"balance_steps is {self.balance_steps}: at least 0")

    @property
    def tower(self) -> TrunkConfig:
        """The whole way up: the trunk and the levels above it."""
        return TrunkConfig(
            [*self.trunk.strides, *self.level_strides],
            [*self.trunk.channels, *self.level_channels],
            self.trunk.blocks,
            self.trunk.kernel,
            causal=self.trunk.causal,
            whiten=self.trunk.whiten,
        )


def at_most_one(features: Tensor) -> Tensor:
    """Features [B, C, T] with a root mean square below 1 over the channels of every frame."""
    return features * torch.rsqrt(1 + features.square().mean(1, keepdim=True))


class TopDown(nn.Module):
    """The top-down network, from the latents of the coarsest level to the representation."""

    def __init__(self, outputs: int, config: HVAEConfig, frames: Sequence[int], signal: Signal) -> None:
        super().__init__()
        widths = [config.trunk.channels[-1], *config.level_channels]
        self.frames = list(frames)
        self.start = LearnedStart(widths[-1])
        self.levels = nn.ModuleList(
            (ScaledLevel if config.scale_by_levels and i == 0 else TopDownLevel)(width, latent, config.trunk, i == 0)
            for i, (width, latent) in enumerate(zip(widths, config.latents, strict=True))
        )
        self.ups = nn.ModuleList(
            upsample(above, below, stride, causal=config.trunk.causal)
            for below, above, stride in zip(widths, config.level_channels, config.level_strides, strict=False)
        )
        self.tower = Decoder(outputs, config.trunk, signal)

    def first_state(self, items: int) -> Tensor:
        """The learned state above the coarsest level: [items, C, frames]."""
        return self.start(items, self.frames[-1])

    def below(self, index: int, state: Tensor) -> Tensor:
        """The input of the next finer level, or the representation [B, C, T] below the finest level."""
        return self.ups[index - 1](state) if index else self.tower(state)


class HVAE(Autoencoder):
    """Latents are a list from the finest to the coarsest level, [B, latent_l, frames_l] each."""

    family = "hvae"
    full_name = "hierarchical variational autoencoder"
    # The levels' priors and posteriors depend on the state above; below the finest latents there are only these.
    synthesis = ("decoder.tower", "decoder.levels.0.enter", "decoder.levels.0.after")

    def __init__(self, config: HVAEConfig, samples: int, rate: int, audio_channels: int = 1) -> None:
        super().__init__(config, samples, rate, audio_channels)
        frames = frames_after(self.representation.frames, config.tower.strides)
        self.frames = frames[len(config.trunk.strides) - 1 :]
        self.loss_names = tuple(f"kl_{i}" for i in range(len(config.latents)))
        channels, signal = self.representation.channels, self.representation.signal
        self.encoder = Encoder(channels, config.tower, signal)
        self.decoder = TopDown(channels, config, self.frames, signal)
        sizes = [latent * frames for latent, frames in zip(config.latents, self.frames, strict=True)]
        self.balance = Balance(sizes, config.balance_steps) if config.balance_steps else None
        self.pyramid: LevelPyramid | None = None
        if config.levels.bands:
            self.loss_names = (*self.loss_names, "levels")
            causal = config.trunk.causal
            self.levels = BandLevels(config.levels, samples, self.frames[1], rate, causal, audio_channels)
            self.pyramid = LevelPyramid(self.all_levels.bands, config.level_channels, self.frames[1:], causal)
        self.scale: LatentScale | None = None
        if config.scale_by_levels:
            levels = cast(BandLevels, self.levels)
            self.scale = make_latent_scale(config, config.latents[0], self.frames[0], levels, rate)
            down = self.encoder.get_submodule(f"stages.{len(config.trunk.strides)}.0")
            start_with_levels(cast(LevelPyramid, self.pyramid), down, self.decoder.levels[1], self.decoder.ups[0])

    @property
    def latent_shapes(self) -> list[tuple[int, int]]:
        """[latent_l, frames_l] of each level, finest first."""
        return list(zip(self.config.latents, self.frames, strict=True))

    def to_tensors(self, latents: Sequence[Tensor]) -> list[Tensor]:
        """A tensor for each level, finest first."""
        return list(latents)

    def from_tensors(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """A tensor for each level, finest first."""
        return list(tensors)

    def features(self, target: Tensor) -> list[Tensor]:
        """Encoder features of each level from a representation [B, C, T], finest first."""
        features = self.encoder(target)[-len(self.frames) :]
        if self.pyramid is None or self.levels is None:
            return features
        coarse = features[1:]
        if self.scale is not None:
            # Unbounded, sounds of another kind than the training's would change the levels, and with them all scales.
            coarse = [at_most_one(feature) for feature in coarse]
        return [features[0], *self.pyramid.enrich(coarse, self.levels.measure(target))]

    def descend(
        self,
        items: int,
        noise: Noise | None,
        features: Sequence[Tensor | None] | None = None,
        latents: Sequence[Tensor | None] | None = None,
        temperature: float = 1.0,
        still: bool = False,
    ) -> tuple[Tensor, list[Level]]:
        """Runs the top-down network. Each level takes the given latents, else its posterior, else its prior.

        Args:
            items: Batch size B.
            noise: Random numbers; None takes the posterior means.
            features: Encoder features of each level; None, or a None entry, samples from the prior.
            latents: Latents of each level, finest first; None entries are computed.
            temperature: Factor on the standard deviation of the prior.
            still: Whether to take the posterior means even with noise, which then serves the prior only.

        Returns:
            The representation [B, C, T] and the result of each level, finest first.
        """
        state = self.decoder.first_state(items)
        levels: list[Level] = []
        for index in reversed(range(len(self.frames))):
            step = cast(TopDownLevel, self.decoder.levels[index])
            scale = self._scale_of(index, state, levels)
            mean, log_variance = step.prior_of(state, scale)
            deviation = (0.5 * log_variance).exp()
            given = latents[index] if latents is not None else None
            feature = features[index] if features is not None else None
            if given is not None:
                level = Level(given)
            elif feature is not None:
                shift, log_scale = step.posterior_of(state, feature, scale)
                local = shift
                if noise is not None and not still:
                    local = gaussian.draw(shift, log_scale, noise.normal(*shift.shape[1:]))
                level = Level(mean + deviation * local, shift, log_scale)
            else:
                assert noise is not None, "drawing from the prior needs noise"
                level = Level(mean + temperature * deviation * noise.normal(*mean.shape[1:]))
            state = self._enter(index, step.absorb(state, level.latents), level, levels)
        return state, levels

    def filled(self, state: Tensor, levels: Sequence[Level], noise: Noise | None = None) -> Tensor:
        """The representation [B, C, T] of `descend`, its upper bands filled up to their levels, if there are any."""
        return state if self.levels is None else self.levels.fill(state, cast(Tensor, levels[1].bands), noise)

    def forward(self, target: Tensor, noise: Noise | None = None) -> Output:
        """Losses are `kl_0` (finest level), `kl_1`, ... in nats per input value, after free nats and balancing.

        If the coarse latents carry levels of the upper bands, `levels` is the mean squared error of those levels,
        normalised: a mean over what the coarsest latents alone give, the coarsest two levels of latents, and so on.
        """
        self.check_target(target)
        noise = noise or fresh_noise(len(target), target.device)
        state, levels = self.descend(len(target), noise, self.features(target))
        recon = self.filled(state, levels, noise)
        losses, metrics, spent = {}, {}, []
        for i, level in enumerate(levels):
            kl = level.divergence()
            budget = self.config.free_nats[i] * self.seconds
            losses[f"kl_{i}"] = gaussian.with_free_nats_by_channel(kl, budget) / target[0].numel()
            spent.append(kl.detach().flatten(1).sum(1))
            metrics[f"kl_{i}_nats_per_second"] = spent[i].mean() / self.seconds
            if self.balance:
                metrics[f"kl_{i}_balance"] = self.balance.factors[i].clone()
                losses[f"kl_{i}"] = losses[f"kl_{i}"] * metrics[f"kl_{i}_balance"]
        if self.pyramid is not None and self.levels is not None:
            wanted = self.pyramid.at_each(self.levels.measure(target))
            pairs = [(cast(Tensor, level.bands), own) for level, own in zip(levels[1:], wanted, strict=True)]
            losses["levels"] = torch.stack([squared_error(found, own) for found, own in pairs]).mean(0)
            metrics["levels_error"] = squared_error(*pairs[0]).detach().mean()
        if not (self.balance and self.training):
            return Output(recon, losses, metrics)
        items = recon.new_full((), float(len(recon)))  # `new_tensor` would wait for a GPU
        sums = {"kl": torch.stack([level.sum() for level in spent]), "items": items}
        return Output(recon, losses, metrics, Statistics({name: value.float() for name, value in sums.items()}))

    def update(self, statistics: Statistics, step: int) -> None:
        """Updates the balance of the levels, if there is one."""
        if self.balance:
            self.balance.update(statistics, step)

    def encode(self, audio: Tensor) -> list[Tensor]:
        """[B, A, samples] -> posterior means of each level, finest first."""
        target = self.represent(audio)
        _, levels = self.descend(target.shape[0], None, self.features(target))
        return [level.latents for level in levels]

    @torch.no_grad()
    def divergences(self, audio: Tensor, noise: Noise) -> Tensor:
        """[B, A, samples] -> [B, levels] nats, finest first, for one sample from the posterior."""
        _, levels = self.descend(len(audio), noise, self.features(self.represent(audio)))
        spent = [level.divergence().flatten(1).sum(1) for level in levels]
        return torch.stack(spent, dim=1)

    def encode_relative(self, audio: Tensor, choose: Choice) -> list[Tensor]:
        """See `Autoencoder`. Each level's posterior knows the values that were chosen for the coarser levels."""
        features = self.features(self.represent(audio))

        def chosen(index: int, step: TopDownLevel, state: Tensor, scale: Scale | None) -> Tensor:
            shift, log_scale = step.posterior_of(state, features[index], scale)
            if scale is None:
                return choose(index, shift, log_scale)
            return choose(index, shift * (-0.5 * log_scale).exp(), torch.zeros_like(log_scale))

        return self._walk(len(audio), chosen)[1]

    def decode_relative(self, values: Sequence[Tensor]) -> Tensor:
        """Values of every level relative to its prior, finest first -> [B, A, samples]."""
        return self.render(self.filled(*self._walk(len(values[0]), lambda index, *_: values[index])[::2]))

    def _walk(
        self, items: int, value_of: Callable[[int, TopDownLevel, Tensor, Scale | None], Tensor]
    ) -> tuple[Tensor, list[Tensor], list[Level]]:
        """The top-down network on values relative to each level's prior, from level, module, state above and scale.

        With scale_by_levels, those of the finest level are in units of the posterior's deviation instead.

        Returns the representation [B, C, T], the values and the result of each level, finest first.
        """
        state = self.decoder.first_state(items)
        values: list[Tensor] = []
        levels: list[Level] = []
        for index in reversed(range(len(self.frames))):
            step = cast(TopDownLevel, self.decoder.levels[index])
            scale = self._scale_of(index, state, levels)
            mean, log_variance = step.prior_of(state, scale)
            values.insert(0, value_of(index, step, state, scale))
            relative = values[0] if scale is None else values[0] * scale.noise
            level = Level(mean + (0.5 * log_variance).exp() * relative)
            state = self._enter(index, step.absorb(state, level.latents), level, levels)
        return state, values, levels

    def _scale_of(self, index: int, state: Tensor, levels: Sequence[Level]) -> Scale | None:
        """The scale of a level of latents that the bands scale, from the coarser levels' results; None for others."""
        if index or self.scale is None:
            return None
        bands = cast(BandLevels, self.levels).power_of(cast(Tensor, levels[0].bands))
        return cast(ScaledLevel, self.decoder.levels[0]).scale_of(state, *self.scale(bands, self.encoder.whitening))

    def _enter(self, index: int, state: Tensor, level: Level, levels: list[Level]) -> Tensor:
        """Adds the result of a level to `levels`, with the bands that its state gives, and returns the state below."""
        if self.pyramid is not None and index:
            level.bands = self.pyramid.read(index - 1, state, levels[0].bands if levels else None)
        levels.insert(0, level)
        return self.decoder.below(index, state)

    def decode(self, latents: Sequence[Tensor]) -> Tensor:
        """Latents of every level, finest first -> [B, A, samples]."""
        self.check_latents(latents)
        return self.render(self.filled(*self.descend(latents[0].shape[0], None, latents=latents)))

    def blend(self, first: Sequence[Tensor], second: Sequence[Tensor], weight: float) -> list[Tensor]:
        """Linear interpolation on every level."""
        return [torch.lerp(a, b, weight) for a, b in zip(first, second, strict=True)]

    @torch.no_grad()
    def partial_reconstructions(self, audio: Tensor, noise: Noise) -> list[Partial]:
        """Reconstructions from all levels, then from fewer and fewer of the coarsest, then of the finest levels.

        Known levels take the posterior mean, as in `reconstruct`. The others sample from their conditional prior at a
        temperature of 1.
        """
        features = self.features(self.represent(audio))
        levels = list(range(len(features)))
        found = []
        for known in [levels, *(levels[i:] for i in levels[1:]), *(levels[:-i] for i in levels[1:])]:
            given = [feature if i in known else None for i, feature in enumerate(features)]
            result = self.filled(*self.descend(len(audio), noise, given, still=True))
            found.append(Partial(known, self.render(result)))
        return found

    def _sample(self, items: int, temperature: float, noise: Noise | None) -> Tensor:
        """Samples every level from its conditional prior: [items, A, samples]."""
        noise = noise or fresh_noise(items, self.decoder.start.state.device)
        return self.render(self.filled(*self.descend(items, noise, temperature=temperature)))
