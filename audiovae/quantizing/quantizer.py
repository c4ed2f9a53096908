"""The settings of the quantizer and the result of quantizing."""

from dataclasses import dataclass
from typing import Literal, get_args

from torch import Tensor

from audiovae.results import Statistics


@dataclass
class QuantizerConfig:
    """Codebooks and the commitment to them.

    Attributes:
        codebooks: Residual codebooks, 1 to 8; each quantises what the ones before left over.
        size: Codes in each codebook.
        decay: Longest decay of the moving averages, a step; they begin short, see `codebook.settling_decay`.
        start_step: Optimizer steps without quantisation before the codebooks start from k-means.
        balance: How strongly codes that are used often are avoided, 0 to about 1; see `codebook.costs`.
        restart_below: A code used less than this share of the mean use is dead and starts anew.
        largest_beta: How much the commitment may grow, in units of beta_0, when the encoder's variance S collapses.
        softness: Temperature of the soft assignment in the diversity term, in units of the variance S.
        commitment: "adaptive": beta_0 / S, within bounds, and an anchor that holds S where it was when the codebooks
            started. "fixed": plain beta_0 times the mean squared distance, no anchor. "none": neither.
        dimension: Of the codes; 0 means that of the latents. A linear map leads down to it and one back up, around
            the whole residual stack (factorised codes; Yu et al. 2022, "Vector-quantized Image Modeling with
            Improved VQGAN", and Kumar et al. 2023, "DAC").
        l2: Quantise directions: what enters the stack is scaled to length sqrt(D), and so are the codes of the
            first codebook, which thereby chooses by cosine. The others quantise what is left, whose length matters.
        dropout: Probability with which an item uses only the first n codebooks, n uniform from 1 to all
            (Zeghidour et al. 2021, section III-C).
        gradient: How the gradient passes the codes, see `audiovae.quantizing.straight_through`.
    """

    codebooks: int = 8
    size: int = 1024
    decay: float = 0.99
    start_step: int = 200
    balance: float = 0.0
    restart_below: float = 0.03
    largest_beta: float = 10.0
    softness: float = 0.1
    commitment: Literal["adaptive", "fixed", "none"] = "adaptive"
    dimension: int = 0
    l2: bool = False
    dropout: float = 0.0
    gradient: Literal["straight-through", "rotation"] = "straight-through"

    def __post_init__(self) -> None:
        if not 1 <= self.codebooks <= 8:
            raise ValueError(f"codebooks is {self.codebooks}: choose 1 to 8")
        if self.size < 2 or not 0 < self.decay < 1 or self.start_step < 0:
            raise ValueError("a codebook has a size of 2 or more, a decay between 0 and 1, a start_step of 0 or more")
        if min(self.largest_beta, self.softness) <= 0 or not 0 <= self.restart_below < 1:
            raise ValueError("largest_beta and softness are above 0, restart_below is at least 0 and below 1")
        if self.balance < 0:
            raise ValueError(f"balance is {self.balance}: at least 0")
        for name in ("commitment", "gradient"):
            allowed = get_args(type(self).__annotations__[name])
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} is '{getattr(self, name)}': choose {' or '.join(allowed)}")
        if self.dimension < 0:
            raise ValueError(f"dimension is {self.dimension}: 0 for that of the latents, or 1 and more")
        if not 0 <= self.dropout <= 1:
            raise ValueError(f"dropout is {self.dropout}: a probability, 0 to 1")
        if self.dropout and self.codebooks == 1:
            raise ValueError("dropout leaves codebooks out, and there is only one: set it to 0")


@dataclass
class Quantized:
    """The result of quantizing [B, D, T].

    Attributes:
        values: [B, D, T] with a gradient for the encoder.
        codes: [B, Q, T] int64 of all codebooks, including those that codebook dropout leaves out of `values`.
        losses: `commitment`, `anchor`, `diversity`, each [B]. The first and the last are means over codebooks in use.
        metrics: Detached scalars, means over codebooks: `perplexity`, `dead_codes` (not yet replaced), `restarts`
            (codes replaced by the last update), `latent_variance` S, and `effective_beta`, the commitment weight in
            units of beta_0.
        statistics: Input of `ResidualQuantizer.update`.
    """

    values: Tensor
    codes: Tensor
    losses: dict[str, Tensor]
    metrics: dict[str, Tensor]
    statistics: Statistics
