"""The trials of the league: each trunk at two learning rates, then further seeds of the better one."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from benchmarks.trials.table import of_files
from benchmarks.trials.trial import Result, Trial

OURS = "ours"
# Names of the alterations, see `benchmarks.variants`, and what the table calls them.
TRUNKS = {
    OURS: "ours, begins as a transform",
    "random": "ours, random start",
    "dac": "DAC",
    "seanet": "SEANet (EnCodec)",
    "oobleck": "Oobleck (stable-audio)",
    "banded": "filter bank and SEANet (as RAVE)",
}


@dataclass(frozen=True)
class Size:
    """How large the trunks are.

    Attributes:
        preset: Of the VAE, see `Trial`.
        rates: Learning rates, that of the preset and a lower one, nearer to those of the papers.
    """

    preset: str
    rates: tuple[str, str]


# The widths of other trunks are those of `benchmarks.variants.trunks`. The default is made for GPUs.
SIZES = {"tiny": Size("vae_tiny", ("0.002", "0.0005")), "default": Size("vae", ("0.001", "0.0003"))}


def trial(size: Size, trunk: str, rate: str, seed: int, seconds: float, perceptual: bool) -> Trial:
    """The training of a VAE with a trunk for some seconds."""
    return Trial(
        f"{trunk}-{rate}-{seed}",
        "vae",
        size.preset,
        ("--optim.lr", rate),
        seed,
        seconds,
        alteration="" if trunk == OURS else f"trunk-{trunk}",
        own_pace=True,
        measures=("--examples", "2", *["--perceptual"] * perceptual),
    )


def first_round(size: Size, trunks: Iterable[str], seconds: float, perceptual: bool) -> list[Trial]:
    """Every trunk at every rate, with the first seed."""
    return [trial(size, trunk, rate, 0, seconds, perceptual) for trunk in trunks for rate in size.rates]


def better_rate(size: Size, results: Mapping[str, Result], trunk: str) -> str | None:
    """The rate of the first round whose files have the smaller mel distance; None if no trial was done."""
    done = [rate for rate in size.rates if f"{trunk}-{rate}-0" in results]
    return min(done, key=lambda rate: of_files(results[f"{trunk}-{rate}-0"])["mel"], default=None)


def further_seeds(
    size: Size, results: Mapping[str, Result], trunks: Iterable[str], seeds: int, seconds: float, perceptual: bool
) -> list[Trial]:
    """The other seeds of every trunk at its better rate."""
    chosen = [(trunk, rate) for trunk in trunks if (rate := better_rate(size, results, trunk))]
    return [trial(size, trunk, rate, seed, seconds, perceptual) for trunk, rate in chosen for seed in range(1, seeds)]
