"""A vector-quantised autoencoder with residual codebooks (van den Oord et al. 2017)."""

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from audiovae.layers.levels import BandLevels, LevelsConfig, fold, unfold
from audiovae.layers.losses import squared_error
from audiovae.layers.noise import Noise, fresh_noise
from audiovae.layers.representation import RepresentationConfig
from audiovae.layers.trunk import Decoder, Encoder, Signal, TrunkConfig, frames_after, project
from audiovae.models.autoencoder import Autoencoder
from audiovae.quantizing.quantizer import QuantizerConfig
from audiovae.quantizing.residual_quantizer import ResidualQuantizer
from audiovae.results import Output, Statistics

# The most residual codebooks of a stack.
LARGEST_STACK = 8
# Marks the statistics of the levels' codebooks.
PREFIX = "levels/"


@dataclass
class VQVAEConfig:
    """Architecture of a VQ-VAE.

    Attributes:
        trunk: The encoder; the decoder mirrors it.
        latent: Dimension of the vectors that are quantised.
        quantizer: Codebooks and commitment loss.
        representation: Input of the trunk: the waveform, or its mel spectrogram.
        levels: Levels of the upper bands in codebooks of their own, for models of waveforms; levels.latents codebooks
            of the quantizer's size. Each of levels.hold latent frames carries one residual stage of a frame of levels.
    """

    trunk: TrunkConfig = field(default_factory=lambda: TrunkConfig([42, 5], [256, 512], 3, 5))
    latent: int = 64
    quantizer: QuantizerConfig = field(default_factory=QuantizerConfig)
    representation: RepresentationConfig = field(default_factory=RepresentationConfig)
    levels: LevelsConfig = field(default_factory=LevelsConfig)

    def __post_init__(self) -> None:
        self.levels.check(self.representation.kind)
        self.trunk.check(self.representation.kind)
        if self.levels.channels * self.levels.hold > LARGEST_STACK:
            raise ValueError(
                f"levels.latents is {self.levels.latents} and levels.hold {self.levels.hold}: their product is the "
                f"number of residual codebooks, at most {LARGEST_STACK}"
            )
        if self.latent < 1:
            raise ValueError(f"latent is {self.latent}: at least 1")


class LatentEncoder(nn.Module):
    """The encoder before quantization: [B, C, T] -> [B, latent, frames]."""

    def __init__(self, inputs: int, config: VQVAEConfig, signal: Signal) -> None:
        super().__init__()
        self.tower = Encoder(inputs, config.trunk, signal)
        self.project = project(config.trunk.channels[-1], config.latent, config.trunk.causal)

    def forward(self, target: Tensor) -> Tensor:
        """[B, C, T] -> [B, latent, frames]."""
        return self.project(self.tower(target)[-1])


class VQVAE(Autoencoder):
    """Latents are codes [B, codebooks, frames] int64: 8 codebooks at 105 frames a second by default."""

    family = "vqvae"
    full_name = "vector-quantised autoencoder"
    training_only = tuple(
        f"{stack}.{name}" for stack in ("quantizer", "level_codes") for name in ResidualQuantizer.TRAINING_ONLY
    )
    loss_names = ("commitment", "anchor", "diversity")

    def __init__(self, config: VQVAEConfig, samples: int, rate: int, audio_channels: int = 1) -> None:
        super().__init__(config, samples, rate, audio_channels)
        self.frames = frames_after(self.representation.frames, config.trunk.strides)[-1]
        channels, signal = self.representation.channels, self.representation.signal
        self.encoder = LatentEncoder(channels, config, signal)
        self.quantizer = ResidualQuantizer(config.quantizer, config.latent)
        self.decoder = nn.Sequential(
            project(config.latent, config.trunk.channels[-1], config.trunk.causal),
            Decoder(channels, config.trunk, signal),
        )
        self.level_codes: ResidualQuantizer | None = None
        if config.levels.bands:
            frames = config.levels.frames(self.frames)
            self.levels = BandLevels(config.levels, samples, frames, rate, config.trunk.causal, audio_channels)
            stages = self.all_levels.latents * config.levels.hold
            self.level_codes = ResidualQuantizer(level_quantizer(config.quantizer, stages), self.all_levels.bands)

    @property
    def latent_shapes(self) -> list[tuple[int, int]]:
        """A single entry (codebooks, frames): codebooks of the levels, then those of the trunk."""
        return [(self.all_levels.channels + self.config.quantizer.codebooks, self.frames)]

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
        target = self.represent(audio)
        of_levels, of_trunk = self._apart(latents)
        regret = self.quantizer.quantization_regret(self.encoder(target), of_trunk).max()
        if self.level_codes is None or self.levels is None:
            return regret
        own = self.level_codes.quantization_regret(self.levels.measure(target), of_levels)
        return torch.maximum(regret, own.max())

    def _apart(self, codes: Tensor) -> tuple[Tensor, Tensor]:
        """Codes [B, codebooks, frames] -> those of the levels, one row for each residual stage, and of the trunk."""
        levels = self.all_levels
        return unfold(codes[:, : levels.channels], levels.hold), codes[:, levels.channels :]

    def _together(self, of_levels: Tensor, of_trunk: Tensor) -> Tensor:
        """The inverse of `_apart`."""
        return torch.cat([fold(of_levels, self.config.levels.hold), of_trunk], 1)

    def forward(self, target: Tensor, noise: Noise | None = None) -> Output:
        """Losses are those of `Quantized`. The noise draws codebook dropout and candidates for dead codes.

        The metric `levels_error` is the mean squared error of the normalised levels, if there are any. They need no
        loss: their codebooks follow the data.
        """
        self.check_target(target)
        noise = noise or fresh_noise(len(target), target.device)
        quantized = self.quantizer(self.encoder(target), noise)
        recon = self.decoder(quantized.values)
        if self.levels is None or self.level_codes is None:
            return Output(recon, quantized.losses, quantized.metrics, quantized.statistics)
        levels = self.levels.measure(target)
        coded = self.level_codes(levels, noise)
        metrics = quantized.metrics | {f"levels_{name}": coded.metrics[name] for name in ("perplexity", "dead_codes")}
        metrics["levels_error"] = squared_error(coded.values, levels).mean()
        statistics = joined(quantized.statistics, coded.statistics)
        return Output(self.levels.fill(recon, coded.values, noise), quantized.losses, metrics, statistics)

    def update(self, statistics: Statistics, step: int) -> None:
        """Updates the codebooks, see `ResidualQuantizer.update`."""
        of_trunk, of_levels = parted(statistics)
        self.quantizer.update(of_trunk, step)
        if self.level_codes is not None:
            self.level_codes.update(of_levels, step)

    def usage(self) -> dict[str, Tensor]:
        """The share of each code, [size] by codebook name, in the order of `encode`; empty before the codebooks start.

        Those of the trunk are "0", the coarsest, and so on. Those of the levels are "levels_0" and so on: means over
        the residual stages that take turns in one row of codes.
        """
        if not self.quantizer.quantizing:
            return {}
        found = {}
        if self.level_codes is not None:
            share = self.level_codes.counts / self.level_codes.counts.sum(1, keepdim=True)
            rows = share.unflatten(0, (-1, self.config.levels.hold)).mean(1)
            found = {f"levels_{row}": share for row, share in enumerate(rows)}
        counts = self.quantizer.counts
        return found | {str(q): share for q, share in enumerate(counts / counts.sum(1, keepdim=True))}

    def code_use(self) -> Tensor:
        """The running counts of the codes in training, [codebooks, turns, size], those of the levels first.

        Several residual stages of the levels take turns in one row of codes. Their counts are not added here: a sum
        of floats depends on its order, and so on the device.
        """
        own = self.quantizer.counts.unsqueeze(1)
        if self.level_codes is None:
            return own
        hold = self.config.levels.hold
        turns = self.level_codes.counts.unflatten(0, (-1, hold))
        return torch.cat([turns, nn.functional.pad(own, (0, 0, 0, hold - 1))])

    def encode(self, audio: Tensor) -> Tensor:
        """[B, A, samples] -> codes [B, codebooks, frames] int64."""
        target = self.represent(audio)
        codes = self.quantizer.encode(self.encoder(target))
        if self.levels is None or self.level_codes is None:
            return codes
        return self._together(self.level_codes.encode(self.levels.measure(target)), codes)

    def decode(self, latents: Tensor) -> Tensor:
        """Codes [B, codebooks, frames] -> [B, A, samples]; the last codebooks may be missing."""
        self.check_latents(latents)
        if self.levels is None or self.level_codes is None:
            return self.render(self.decoder(self.quantizer.decode(latents)))
        of_levels, of_trunk = self._apart(latents)
        values = self.quantizer.decode(of_trunk) if of_trunk.shape[1] else self._silence(latents)
        return self.render(self.levels.fill(self.decoder(values), self.level_codes.decode(of_levels)))

    def _silence(self, latents: Tensor) -> Tensor:
        """Zeros [B, latent, frames] for codes of levels alone."""
        return self.quantizer.codes.new_zeros(len(latents), self.config.latent, self.frames)

    def blend(self, first: Tensor, second: Tensor, weight: float) -> Tensor:
        """Codes [B, codebooks, frames] of the interpolated quantized values; at the ends, the given codes."""
        if weight in (0, 1):
            return second if weight else first
        if self.level_codes is None:
            return self.quantizer.blend(first, second, weight)
        (first_levels, first), (second_levels, second) = self._apart(first), self._apart(second)
        return self._together(
            self.level_codes.blend(first_levels, second_levels, weight), self.quantizer.blend(first, second, weight)
        )

    def _sample(self, items: int, temperature: float, noise: Noise | None) -> Tensor:
        """Decodes codes sampled independently with their frequencies of use: [items, A, samples].

        A VQ-VAE has no learned prior, so expect texture rather than melody. A temperature above 1 flattens the
        frequencies, one below 1 sharpens them.
        """
        noise = noise or fresh_noise(items, self.quantizer.codes.device)
        codes = draw_codes(self.quantizer.counts, self.frames, temperature, noise)
        if self.level_codes is None:
            return self.decode(codes)
        of_levels = draw_codes(self.level_codes.counts, self.config.levels.frames(self.frames), temperature, noise)
        return self.decode(self._together(of_levels, codes))


def draw_codes(counts: Tensor, frames: int, temperature: float, noise: Noise) -> Tensor:
    """Codes drawn independently with their frequencies [Q, K]: [n, Q, frames] int64."""
    share = torch.softmax((counts + 1e-6).log() / max(temperature, 1e-3), dim=1)
    edges = share.cumsum(1)  # [Q, K]
    uniform = 0.5 * (1 + torch.erf(noise.normal(len(edges), frames) / 2**0.5))  # [n, Q, T]
    codes = torch.searchsorted(edges, uniform.transpose(0, 1).flatten(1).contiguous())
    return codes.clamp_max(share.shape[1] - 1).view(len(edges), -1, frames).transpose(0, 1)


def level_quantizer(config: QuantizerConfig, stages: int) -> QuantizerConfig:
    """The settings of the levels' codebooks: those of the trunk, without what concerns the gradient or the trunk."""
    return replace(config, codebooks=stages, commitment="none", dimension=0, l2=False, dropout=0.0, balance=0.0)


def joined(trunk: Statistics, levels: Statistics) -> Statistics:
    """Statistics of both stacks of codebooks under different names."""
    return Statistics(
        trunk.sums | {f"{PREFIX}{name}": value for name, value in levels.sums.items()},
        trunk.items | {f"{PREFIX}{name}": value for name, value in levels.items.items()},
    )


def parted(statistics: Statistics) -> tuple[Statistics, Statistics]:
    """The inverse of `joined`: statistics of the trunk's codebooks and of the levels'."""
    of_trunk, of_levels = Statistics(), Statistics()
    for kind in ("sums", "items"):
        for name, value in getattr(statistics, kind).items():
            part, own = (of_levels, name.removeprefix(PREFIX)) if name.startswith(PREFIX) else (of_trunk, name)
            getattr(part, kind)[own] = value
    return of_trunk, of_levels
