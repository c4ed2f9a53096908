"""A prior of codes: a causal transformer over frames of residual codes."""

import math
from collections.abc import Iterable
from functools import partial

import torch
from torch import Tensor, nn

from audiovae.errors import ModelError
from audiovae.layers.noise import Noise, fresh_noise
from audiovae.priors.conditions import Condition, Guide, LabelEmbedding
from audiovae.priors.delay import delayed, undelayed
from audiovae.priors.prior import Prior
from audiovae.priors.settings import PriorConfig
from audiovae.priors.transformer import Cache, Dropout, Transformer
from audiovae.results import Output

# Codes of all books of a frame; more only occur in files that are damaged or meant to fill the memory.
MOST_CODES = 1 << 20
# Target of a step without a code.
NOTHING = -100
# Steps of the random numbers in [0, 1) that choose codes.
FINE = 1 << 24


class Embedding(nn.Module):
    """The sum of one vector for each book: codes [B, K, S], where `size` stands for no code, -> [B, S, width]."""

    def __init__(self, books: int, size: int, width: int) -> None:
        super().__init__()
        self.table = nn.Embedding(books * (size + 1), width)
        nn.init.normal_(self.table.weight, std=1 / math.sqrt(books))
        self.offsets = nn.Buffer((size + 1) * torch.arange(books).unsqueeze(1), persistent=False)

    def forward(self, codes: Tensor) -> Tensor:
        """[B, K, S] int64 -> [B, S, width]."""
        return self.table(codes + self.offsets).sum(1)


class Heads(nn.Module):
    """Features [B, S, width] -> logits [B, S, K, size]. Without training they are the log of each code's share."""

    def __init__(self, books: int, size: int, width: int) -> None:
        super().__init__()
        self.books = books
        self.weight = nn.Parameter(torch.zeros(books * size, width))
        self.log_share = nn.Buffer(torch.full((books * size,), -math.log(size)))

    def forward(self, features: Tensor) -> Tensor:
        """[B, S, width] -> [B, S, K, size] float32."""
        # Shares are added in float32: bfloat16 has an error of 0.03 at the logarithm of 1/1000.
        return (nn.functional.linear(features, self.weight).float() + self.log_share).unflatten(2, (self.books, -1))


class CodePrior(Prior):
    """Each step predicts one code of every book, in the delay pattern, from all steps before."""

    full_name = "code prior"
    has_random_loss = False

    def __init__(self, config: PriorConfig, samples: int, rate: int) -> None:
        super().__init__(config, samples, rate)
        if self.latents.kind != "codes":
            raise ValueError(f"latents.kind is {self.latents.kind}: a code prior takes codes")
        books, size, transformer = self.latents.rows, self.latents.size, config.settings.transformer
        if books * size > MOST_CODES:
            raise ValueError(f"{books} codebooks of {size} codes are {books * size} in all: at most {MOST_CODES}")
        self.ahead = books - 1  # in the delay pattern the last book of a frame comes so many steps later
        self.enter = Embedding(books, size, transformer.width)
        self.trunk = Transformer(transformer, causal=True, timed=False)
        self.heads = Heads(books, size, transformer.width)
        labels = len(self.latents.labels)
        self.label = LabelEmbedding(labels, transformer.width) if labels else None

    def represent(self, audio: Tensor) -> Tensor:
        """Chunks [B, 1, samples] in [-1, 1) -> codes [B, books, frames] int64, with labels if there are any."""
        return self.with_labels(self.recorded(audio).long(), audio)

    def check_records(self, numbers: Tensor) -> None:
        """Raises ModelError if a record holds what is no code or label."""
        super().check_records(numbers)
        self._check_codes(numbers[:, : self.latents.values])

    def _check_codes(self, codes: Tensor) -> None:
        """Raises ModelError if these are no codes."""
        least, most = (int(end) for end in codes.aminmax())
        if least < 0 or most >= self.latents.size:
            raise ModelError(
                f"the data hold codes from {least} to {most}, and codes are 0 to {self.latents.size - 1}; encode the "
                "recordings again"
            )

    def example_target(self, items: int) -> Tensor:
        """Codes of 0: [items, books, frames] int64, or a frame more for labels."""
        frames = self.latents.frames + bool(self.latents.labels)
        return torch.zeros(items, self.latents.rows, frames, dtype=torch.int64)

    @torch.no_grad()
    def calibrate(self, audio_batches: Iterable[Tensor]) -> None:
        """Starts the heads at the share of each code, so that training begins at the entropy of single codes.

        Raises:
            ModelError: if a record holds what is no code.
        """
        books, size = self.latents.rows, self.latents.size
        counts = torch.ones(books, size, dtype=torch.float64, device=self.device)
        for audio in audio_batches:
            codes = self.recorded(audio).long()
            self._check_codes(codes)
            numbers = (codes + size * torch.arange(books, device=codes.device).unsqueeze(1)).flatten()
            counts += torch.bincount(numbers, minlength=books * size).view(books, size)
        self.heads.log_share.copy_((counts / counts.sum(1, keepdim=True)).log().flatten())

    def calibrated(self) -> list[Tensor]:
        """The buffers that `calibrate` sets."""
        return [self.heads.log_share]

    def forward(self, target: Tensor, noise: Noise | None = None) -> Output:
        """The loss `prior` is the mean negative log-likelihood in nats a code.

        The metric `bits_per_second` is the same in bits a second of audio.

        Args:
            target: Codes [B, books, frames] int64 from `represent`, with labels if there are any.
            noise: The random numbers of dropout, and of labels that are left out.
        """
        dropout = None
        if self.training:
            noise = noise or fresh_noise(len(target), target.device)
        target, labels = self.parted(target, noise)
        books, frames = target.shape[1:]
        if self.training and noise is not None:
            dropout = self.trunk.dropout(noise, frames + books - 1)
        logits = self.predicted(target, labels, dropout)
        wanted = delayed(target, NOTHING).transpose(1, 2)
        nats = nn.functional.cross_entropy(
            logits.flatten(0, 2), wanted.flatten(), reduction="none", ignore_index=NOTHING
        )
        loss = nats.view(len(target), -1).sum(1) / (books * frames)
        bits = loss.detach().mean() * self._bits_per_second
        return Output(target, {"prior": loss}, {"bits_per_second": bits})

    @property
    def _bits_per_second(self) -> float:
        """Bits in a second of audio for a loss of one nat a code."""
        return self.latents.rows * self.latents.frame_rate / math.log(2)

    def in_other_units(self, loss: float) -> dict[str, float]:
        """The rate of an ideal entropy coder in bits a second of audio."""
        return {"bits_per_second": loss * self._bits_per_second}

    def predicted(self, codes: Tensor, labels: Tensor | None = None, dropout: Dropout | None = None) -> Tensor:
        """Logits of each step in the delay pattern, [B, S, books, size] float32, from codes [B, books, frames].

        Labels are numbers [B], if the prior has labels.
        """
        steps = delayed(codes, self.latents.size)
        return self.heads(self.trunk(self._seen(self._inputs(steps), labels), dropout=dropout))

    def _seen(self, inputs: Tensor, labels: Tensor | None) -> Tensor:
        """What the network sees of inputs [B, books, S]: [B, S, width]."""
        seen = self.enter(inputs)
        return seen if self.label is None or labels is None else seen + self.label(labels).unsqueeze(1)

    def _inputs(self, steps: Tensor) -> Tensor:
        """What each step sees: the codes of the step before, [B, books, S]."""
        return nn.functional.pad(steps, (1, 0), value=self.latents.size)[:, :, :-1]

    @torch.no_grad()
    def sample(
        self,
        noise: Noise,
        frames: int,
        temperature: float = 1.0,
        given: Tensor | None = None,
        known: Tensor | None = None,
        condition: Condition | None = None,
        top_k: int = 0,
    ) -> Tensor:
        """Draws codes [B, books, frames] int64, see `Prior.sample`.

        Args:
            noise, frames, temperature, given, known, condition: See `Prior.sample`. Given frames are the first ones.
            top_k: Draw from so many of the most likely codes only; 0 for all.

        Raises:
            ModelError: if these do not fit, or frames are given that are not the first ones.
        """
        self.check_sampling(len(noise.rows), frames, temperature, given, known)
        if not top_k >= 0:
            raise ModelError(f"top_k is {top_k}: 0 for all codes, or 1 and more")
        books, size = self.latents.rows, self.latents.size
        start = (
            torch.zeros(len(noise.rows), books, 0, dtype=torch.int64) if given is None else self._first(given, known)
        )
        count = start.shape[2]
        codes = nn.functional.pad(start.to(self.device), (0, frames - count))
        steps = delayed(codes, size)
        inputs = self._inputs(steps)
        cache = self.trunk.cache(steps.shape[2])
        guide = Guide(condition, len(codes), self.label is not None, codes.device)
        book = torch.arange(books, device=codes.device)
        # The steps whose codes are all given need no draws, only a place in the cache.
        for step in range(min(count, steps.shape[2] - 1), steps.shape[2]):
            logits = guide(partial(self._next, cache), inputs[:, :, cache.length : step + 1])
            drawn = choose(logits, noise.integers(FINE, books).to(codes.device), temperature, top_k)
            frame = step - book
            steps[:, :, step] = torch.where((frame >= count) & (frame < frames), drawn, steps[:, :, step])
            if step + 1 < steps.shape[2]:
                inputs[:, :, step + 1] = steps[:, :, step]
        return undelayed(steps)

    def _next(self, cache: Cache, inputs: Tensor, labels: Tensor | None) -> Tensor:
        """Logits [B, books, size] after the new inputs [B, books, n]."""
        return self.heads(self.trunk(self._seen(inputs, labels), cache=cache)[:, -1:]).squeeze(1)

    def _first(self, given: Tensor, known: Tensor | None) -> Tensor:
        """The given frames, which must be the first ones and as many in each item: [B, books, count] int64."""
        if given.is_floating_point() or not ((given >= 0) & (given < self.latents.size)).all():
            raise ModelError(f"given codes must be whole numbers from 0 to {self.latents.size - 1}")
        count = given.shape[2]
        if known is not None:
            count = int(known[0].sum())
            if not (known == (torch.arange(known.shape[1], device=known.device) < count)).all():
                raise ModelError("a prior of codes continues a beginning of one length: it cannot fill gaps")
        return given[:, :, :count].long()


def choose(logits: Tensor, numbers: Tensor, temperature: float, top_k: int) -> Tensor:
    """Draws codes by inverting the cumulative distribution.

    Args:
        logits: [..., size] float32.
        numbers: Uniform whole numbers in [0, FINE), [...].
        temperature: Divides the logits; 0 takes the most likely code.
        top_k: Take only so many of the most likely codes; 0 for all.

    Returns:
        [...] int64.
    """
    if temperature == 0 or top_k == 1:
        return logits.argmax(-1)
    if 0 < top_k < logits.shape[-1]:
        least = logits.topk(top_k, dim=-1).values[..., -1:]
        logits = logits.masked_fill(logits < least, -torch.inf)
    # Without the largest one, no temperature makes them infinite. In float64 the sum of many shares is exact enough.
    likely = (logits - logits.amax(-1, keepdim=True)).double() / temperature
    shares = likely.softmax(-1).cumsum(-1)
    point = (numbers.double().unsqueeze(-1) + 0.5) / FINE * shares[..., -1:]
    return torch.searchsorted(shares, point).squeeze(-1).clamp_max(logits.shape[-1] - 1)
