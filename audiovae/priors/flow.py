"""A prior of real latents: rectified flow from noise to latents (Liu et al. 2022, "Flow Straight and Fast")."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from audiovae.errors import ModelError
from audiovae.layers.noise import FINE, Noise, fractions, fresh_noise
from audiovae.priors.conditions import Condition, Guide, LabelEmbedding
from audiovae.priors.latents import STEP
from audiovae.priors.prior import Prior
from audiovae.priors.settings import PriorConfig
from audiovae.priors.transformer import Dropout, TimeEmbedding, Transformer, zeroed
from audiovae.results import Output

# A row's scale is at least this share of the largest one: rows without information are not blown up to noise.
LEAST_SCALE = 0.1
# Added to the variance of what the network sees: rows that never change have none at time 1.
LEAST_POWER = 1e-6
# Times stay so far from 0 and 1.
MARGIN = 1e-3


class FlowPrior(Prior):
    """Latents are reached from noise along straight lines: x_t = (1 - t) noise + t latents.

    The network sees x_t, the frames that are given, and which these are. It tells the velocity of x_t.
    """

    full_name = "flow prior"
    has_random_loss = True

    def __init__(self, config: PriorConfig, samples: int, rate: int) -> None:
        super().__init__(config, samples, rate)
        if self.latents.kind != "real":
            raise ValueError(f"latents.kind is {self.latents.kind}: a flow prior takes real latents")
        rows, transformer = self.latents.rows, config.settings.transformer
        self.ahead = self.latents.frames
        self.mean = nn.Buffer(torch.zeros(rows))
        self.scale = nn.Buffer(torch.ones(rows))
        self.spread = nn.Buffer(torch.ones(rows))
        self.enter = nn.Linear(2 * rows + 1, transformer.width)
        self.time = TimeEmbedding(transformer.width)
        self.trunk = Transformer(transformer, causal=False, timed=True)
        self.leave = zeroed(nn.Linear(transformer.width, rows))
        labels = len(self.latents.labels)
        self.label = LabelEmbedding(labels, transformer.width) if labels else None

    def represent(self, audio: Tensor) -> Tensor:
        """Chunks [B, 1, samples] in [-1, 1) -> normalised latents [B, rows, frames], with labels if there are any."""
        return self.with_labels(self.normalised(self.recorded(audio) * STEP), audio)

    def normalised(self, latents: Tensor) -> Tensor:
        """Latents [B, rows, frames] -> with mean 0 and deviation 1 in each row over the training data."""
        return (latents - self.mean.unsqueeze(1)) / self.scale.unsqueeze(1)

    def example_target(self, items: int) -> Tensor:
        """Normalised latents without content: [items, rows, frames], or a frame more for labels."""
        return torch.empty(items, self.latents.rows, self.latents.frames + bool(self.latents.labels))

    @torch.no_grad()
    def calibrate(self, audio_batches: Iterable[Tensor]) -> None:
        """Sets mean and scale of each row, in float64; without batches they stay. Constant rows do no harm."""
        count = 0
        total = squares = torch.zeros((), dtype=torch.float64)
        for audio in audio_batches:
            values = self.recorded(audio).double() * STEP
            count += values.shape[0] * values.shape[2]
            total = total + values.sum((0, 2))
            squares = squares + values.square().sum((0, 2))
        if not count:
            return
        mean = total / count
        deviation = (squares / count - mean.square()).clamp_min(0.0).sqrt()
        largest = deviation.max()
        self.mean.copy_(mean)
        scale = torch.where(largest > 0, deviation.clamp_min(LEAST_SCALE * largest), 1.0)
        self.scale.copy_(scale)
        self.spread.copy_(deviation / scale)

    def calibrated(self) -> list[Tensor]:
        """The buffers that `calibrate` sets."""
        return [self.mean, self.scale, self.spread]

    def forward(self, target: Tensor, noise: Noise | None = None) -> Output:
        """The loss `prior` is the mean squared error of the velocity over frames that are not given.

        Without `noise`, evaluation mode takes the same random numbers at each call. The metric `explained` is the share
        of the velocity's energy that the network predicts.

        Args:
            target: Normalised latents [B, rows, frames] from `represent`, with labels if there are any.
            noise: The random numbers.
        """
        items, settings = len(target), self.config.settings
        if noise is None:
            rows = torch.arange(items, device=target.device)
            noise = fresh_noise(items, target.device) if self.training else Noise(0, 0, rows, items)
        target, labels = self.parted(target, noise)
        start = noise.normal(*target.shape[1:])
        time = times(noise)
        known = given_frames(noise, target.shape[2], settings.given)
        dropout = None
        if self.training:
            target = target + settings.noise * noise.normal(*target.shape[1:])
            dropout = self.trunk.dropout(noise, target.shape[2])
        mixed = torch.lerp(start, target, time.view(-1, 1, 1))
        velocity = target - start
        found = self.velocity(mixed, target, known, time, labels, dropout)
        wanted = (~known).float()
        wanted = wanted / wanted.sum(1, keepdim=True)
        loss = ((found - velocity).square().mean(1) * wanted).sum(1)
        energy = (velocity.square().mean(1) * wanted).sum(1)
        return Output(target, {"prior": loss}, {"explained": (1 - loss / energy).detach().mean()})

    def velocity(
        self,
        mixed: Tensor,
        given: Tensor,
        known: Tensor,
        time: Tensor,
        labels: Tensor | None = None,
        dropout: Dropout | None = None,
    ) -> Tensor:
        """The velocity at a time, [B, rows, frames] float32, of frames that are not given.

        Args:
            mixed: x_t, [B, rows, frames]; what it is where frames are given has no effect.
            given: Normalised latents [B, rows, frames]; what they are elsewhere has no effect.
            known: bool [B, frames], the given frames.
            time: [B] in [0, 1].
            labels: [B] numbers of labels, if the prior has labels.
            dropout: For training.
        """
        mask = known.unsqueeze(1)
        skip, gain, power = self._preconditioning(time)
        own = mixed.masked_fill(mask, 0.0) * power.rsqrt()
        seen = torch.cat([own, given.masked_fill(~mask, 0.0), mask.to(mixed.dtype)], 1)
        features = self.time(time)
        if self.label is not None and labels is not None:
            features = features + self.label(labels)
        found = self.trunk(self.enter(seen.transpose(1, 2)), features, dropout)
        return skip * mixed + gain * self.leave(found).transpose(1, 2).float()

    def _preconditioning(self, time: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What the velocity is made of: `skip` x_t + `gain` network, and the variance of x_t, each [B, rows, 1].

        The first term is the best linear estimate of the velocity from x_t for latents of independent frames and rows,
        and `gain` is the deviation of its error, so the network has a task of unit variance at any time, and training
        starts at the best linear estimate (after Karras et al. 2022, "Elucidating the design space of diffusion-based
        generative models", section 5). With d the deviation of a row and t the time, the velocity and x_t have the
        covariance t d^2 - (1 - t), x_t has the variance t^2 d^2 + (1 - t)^2, and the error d^2 over that variance.
        """
        time, deviation = time.float().view(-1, 1, 1), self.spread.view(1, -1, 1)
        power = (time * deviation).square() + (1 - time).square() + LEAST_POWER
        covariance = time * deviation.square() - (1 - time)
        return covariance / power, deviation / power.sqrt(), power

    @torch.no_grad()
    def sample(
        self,
        noise: Noise,
        frames: int,
        temperature: float = 1.0,
        given: Tensor | None = None,
        known: Tensor | None = None,
        condition: Condition | None = None,
        steps: int = 16,
    ) -> Tensor:
        """Draws latents in their own units, see `Prior.sample`; the temperature scales the noise at the start.

        Args:
            noise, frames, temperature, given, known, condition: See `Prior.sample`. Given frames may be anywhere.
            steps: Steps of the midpoint method; each runs the network twice.
        """
        items = len(noise.rows)
        self.check_sampling(items, frames, temperature, given, known)
        if steps < 1:
            raise ModelError(f"{steps} steps: at least 1")
        device = self.mean.device
        whole = self.mean.new_zeros(items, self.latents.rows, frames)
        fixed = torch.zeros(items, frames, dtype=torch.bool, device=device)
        if given is not None:
            length = given.shape[2]
            whole[:, :, :length] = given.to(device, whole.dtype)
            fixed[:, :length] = True if known is None else known.to(device)
        x = temperature * noise.normal(self.latents.rows, frames).to(device, whole.dtype)
        guide = Guide(condition, items, self.label is not None, device)
        found = self._integrated(x, self.normalised(whole), fixed, steps, guide)
        found = self.mean.unsqueeze(1) + self.scale.unsqueeze(1) * found
        return torch.where(fixed.unsqueeze(1), whole, found)

    def _integrated(self, x: Tensor, given: Tensor, known: Tensor, steps: int, guide: Guide) -> Tensor:
        """From noise [B, rows, frames] at time 0 to normalised latents at time 1."""
        for i in range(steps):
            time = x.new_full((len(x),), i / steps)
            middle = x + 0.5 / steps * guide(self.velocity, x, given, known, time)
            x = x + guide(self.velocity, middle, given, known, time + 0.5 / steps) / steps
        return x


def times(noise: Noise) -> Tensor:
    """A time in (0, 1) for each item, logistic-normal (Esser et al. 2024), [B].

    The times are stratified: the rows of the global batch share the range among them, which makes the mean loss of a
    batch steadier. An item's own time has the same distribution whatever its row, over batches in random order.
    """
    place = (noise.rows + (fractions(noise, 1).squeeze(1) + 0.5) / FINE) / noise.total
    return torch.special.ndtri(place.clamp(0.0, 1.0)).sigmoid().clamp(MARGIN, 1 - MARGIN)


def given_frames(noise: Noise, frames: int, share: float) -> Tensor:
    """Which frames are given, bool [B, frames]; at least one frame is not.

    A share of the items has given frames: half of these a beginning, half a beginning and an end with a gap between
    them. Lengths are random.
    """
    some, first, last, gap = fractions(noise, 4).unbind(1)
    first = first * frames // FINE
    last = first + 1 + last * (frames - first) // FINE
    last = torch.where(gap < FINE // 2, last, frames)
    index = torch.arange(frames, device=first.device)
    outside = (index < first.unsqueeze(1)) | (index >= last.unsqueeze(1))
    return outside & (some < round(share * FINE)).unsqueeze(1)
