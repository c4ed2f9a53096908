"""How latents carry the levels of the upper bands: as channels of their own, or in the states of a top-down network."""

from collections.abc import Sequence

from torch import Tensor, nn

from audiovae.layers.gaussian import bounded_log_variance
from audiovae.layers.levels import LevelsConfig, fold, unfold
from audiovae.layers.trunk import project, residual_stack, silent_head

# Initial log variance of the posterior.
POSTERIOR_START = -3.0


class GaussianLevels(nn.Module):
    """Levels as Gaussian latents: the encoder and the decoder between levels and latents.

    They begin as the identity, so that latent channel b is the level of band b, and learn what bands and frames have in
    common. With config.hold, a frame of levels takes that many latent frames.
    """

    def __init__(self, config: LevelsConfig, causal: bool = False) -> None:
        super().__init__()
        self.hold, channels = config.hold, config.latents * config.hold
        self.before = residual_stack(config.bands, 1, 3, causal)
        self.mean = project(config.bands, channels, causal)
        self.log_variance = silent_head(config.bands, channels, POSTERIOR_START)
        self.back = project(channels, config.bands, causal)
        self.after = residual_stack(config.bands, 1, 3, causal)

    def encode(self, levels: Tensor) -> tuple[Tensor, Tensor]:
        """[B, bands, frames] -> posterior mean and log variance, [B, latents, frames * hold] each."""
        features = self.before(levels)
        log_variance = bounded_log_variance(self.log_variance(features))
        return fold(self.mean(features).float(), self.hold), fold(log_variance, self.hold)

    def decode(self, latents: Tensor) -> Tensor:
        """[B, latents, frames * hold] -> normalised levels [B, bands, frames]."""
        return self.after(self.back(unfold(latents, self.hold)))


class LevelPyramid(nn.Module):
    """Levels in a top-down network: every coarse stage adds detail to the levels that the coarser stages gave.

    So the states of any number of coarse stages give the levels as a whole, at their own number of frames. All lists
    run from the finest of these stages to the coarsest; the finest has the frames of the levels.
    """

    def __init__(self, bands: int, widths: Sequence[int], frames: Sequence[int], causal: bool = False) -> None:
        super().__init__()
        self.frames = list(frames)
        self.enter = nn.ModuleList(project(bands, width, causal) for width in widths)
        self.leave = nn.ModuleList(project(width, bands, causal) for width in widths)

    def at_each(self, levels: Tensor) -> list[Tensor]:
        """Means of levels [B, bands, T] over the frames of each stage, [B, bands, T_i]."""
        return [levels.unflatten(2, (frames, -1)).mean(3) for frames in self.frames]

    def enrich(self, features: Sequence[Tensor], levels: Tensor) -> list[Tensor]:
        """Adds levels [B, bands, T] to the encoder's features [B, C_i, T_i] of each stage."""
        means = self.at_each(levels)
        return [own + enter(mean) for own, enter, mean in zip(features, self.enter, means, strict=True)]

    def read(self, stage: int, state: Tensor, coarser: Tensor | None) -> Tensor:
        """Levels after a stage, from its state [B, C, T] and those after the stage above it: [B, bands, T]."""
        detail = self.leave[stage](state).float()
        if coarser is None:
            return detail
        return detail + coarser.repeat_interleave(detail.shape[2] // coarser.shape[2], dim=2)
