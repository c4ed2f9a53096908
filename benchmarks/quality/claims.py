"""What is claimed about quality, and whether the trials bear it out: results in, findings out."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import dropwhile, pairwise
from statistics import mean, median
from typing import Any

from benchmarks.quality.chunk_boundaries import error_at_joints
from benchmarks.quality.plan import SEEDS
from benchmarks.quality.rate_limit import bits_per_frame, si_sdr_at_rate
from benchmarks.quality.trial import Result

Results = Mapping[str, Result]
# A level of an HVAE counts as active with so many of its units.
LEVEL_ACTIVE = 0.5
# The median that a loss is compared with runs over so many points before it.
WINDOW = 100


@dataclass(frozen=True)
class Finding:
    """One claim, held against the measurements.

    Attributes:
        name: Short.
        claim: In words, with its threshold.
        holds: Whether it does.
        figures: What was measured.
    """

    name: str
    claim: str
    holds: bool
    figures: str


def si_sdr(result: Result) -> float:
    """Held-out SI-SDR in dB, the mean over all chunks."""
    return result.summary["reconstruction"]["si_sdr"]


def of_seeds(results: Results, name: str) -> list[Result]:
    """The results of a trial in every seed; in the short form, which counts steps, in the first."""
    seeds = SEEDS[:1] if results[f"{name}-{SEEDS[0]}"].trial.get("steps") else SEEDS
    return [results[f"{name}-{seed}"] for seed in seeds]


def better_than_pooled(results: Results, margin: float) -> Finding:
    """Each family against the pooled VAE of the study."""
    base = si_sdr(results["study-pooled-vae"])
    gains = {family: si_sdr(results[family]) - base for family in ("vae", "hvae", "vqvae")}
    return Finding(
        "beats the pooled VAE",
        f"every family's held-out SI-SDR is at least {margin:g} dB above the pooled VAE's",
        min(gains.values()) >= margin,
        f"pooled {base:.1f} dB; " + ", ".join(f"{name} {gain:+.1f}" for name, gain in gains.items()),
    )


def better_than_study(results: Results, margin: float) -> Finding:
    """Each family against its own preset of the study."""
    pairs = {"vae": "study-pooled-vae", "hvae": "study-hvae", "vqvae": "study-vqvae"}
    gains = {family: si_sdr(results[family]) - si_sdr(results[other]) for family, other in pairs.items()}
    return Finding(
        "beats the study's family",
        f"every family's SI-SDR is at least {margin:g} dB above the study's preset of that family",
        min(gains.values()) >= margin,
        ", ".join(f"{name} {gain:+.1f} dB" for name, gain in gains.items()),
    )


def near_ceiling(results: Results, margin: float) -> Finding:
    """The families with real latents against the same trunk without a charge on them."""
    short = results["vae"].trial.get("steps")  # which does without one of them
    families = ("hvae",) if short else ("vae", "hvae")
    found = {family: si_sdr(results[f"{family}-ceiling"]) - si_sdr(results[family]) for family in families}
    return Finding(
        "near its ceiling",
        f"VAE and HVAE are at most {margin:g} dB below an autoencoder of the same trunk without KL",
        max(found.values()) <= margin,
        ", ".join(f"{name} {gap:.1f} dB below" for name, gap in found.items()),
    )


def near_rate_limit(results: Results, margin: float) -> Finding:
    """The VQ-VAE against what its rate allows: the ceiling's latents through an ideal code of as many bits."""
    own, ceiling = results["vqvae"], results["vqvae-ceiling"]
    limit = si_sdr_at_rate(ceiling.folder, bits_per_frame(own.folder))
    return Finding(
        "codes near the limit of their rate",
        f"the VQ-VAE is at most {margin:g} dB below its unquantised trunk with an ideal Gaussian code of the same rate",
        si_sdr(own) >= limit - margin,
        f"{si_sdr(own):.1f} dB, limit {limit:.1f} dB; unquantised {si_sdr(ceiling):.1f} dB",
    )


def active(results: Results, share: float) -> Finding:
    """Active units in every seed, the plain recipe beside."""

    def lowest(name: str) -> float:
        return min(min(level["active_units"] for level in r.summary["latents"]) for r in of_seeds(results, name))

    vae, hvae = lowest("vae-posterior"), lowest("hvae-posterior")
    plain = [level["active_units"] for level in results["hvae-plain"].summary["latents"]]
    return Finding(
        "no posterior collapse",
        f"in every seed at least {share:.0%} of the VAE's units are active, and {LEVEL_ACTIVE:.0%} in each HVAE level",
        vae >= share and hvae >= LEVEL_ACTIVE,
        f"VAE lowest {vae:.0%}, HVAE's lowest level {hvae:.0%}; plain HVAE "
        + "/".join(f"{value:.0%}" for value in plain),
    )


def levels_earn(results: Results, _: float) -> Finding:
    """Reconstructions get worse with each level, from the coarsest on, that is drawn from the prior."""
    rows = []
    for result in of_seeds(results, "hvae-posterior"):
        kept = [row for row in result.summary["levels"] if 0 in row["known"]]  # the finest is
        kept.sort(key=lambda row: -len(row["known"]))
        rows.append([row["si_sdr"] for row in kept])
    return Finding(
        "every level earns its place",
        "with every further level drawn from the prior, the coarsest first, SI-SDR falls, in every seed",
        bool(rows) and all(len(row) > 2 and all(a > b for a, b in pairwise(row)) for row in rows),
        "; ".join(" > ".join(f"{value:.2f}" for value in row) for row in rows) + " dB",
    )


def codebooks(results: Results, least: tuple[float, float]) -> Finding:
    """Perplexity and use of 1,024 codes over the held-out chunks."""

    def of(result: Result) -> tuple[float, float]:
        rows, size = result.summary["latents"], 1024
        return mean(row["perplexity"] for row in rows) / size, mean(row["codes_used"] for row in rows)

    own = [of(result) for result in of_seeds(results, "codes")]
    rivals = {kind: of(results[f"codes-rival-{kind}"]) for kind in ("default", "tuned")}
    return Finding(
        "codebooks in use",
        f"perplexity at least {least[0]:.0%} of 1,024 and at least {least[1]:.0%} of the codes used, in every seed",
        all(perplexity >= least[0] and used >= least[1] for perplexity, used in own),
        "; ".join(f"{p:.0%}, {u:.0%} used" for p, u in own)
        + "; vector-quantize-pytorch "
        + ", ".join(f"{kind} {p:.0%}, {u:.0%} used" for kind, (p, u) in rivals.items()),
    )


def largest_jump(result: Result, name: str = "loss/commitment") -> float:
    """The largest ratio of a loss to the median of the points before it, from its start (0 means not yet) and the
    first quarter of the run on; 20 points are the least that have a median."""
    series = [value for step, value in result.series(name) if step > result.steps // 4]
    series = list(dropwhile(lambda value: value == 0, series))
    ratios = [value / median(series[max(0, i - WINDOW) : i]) for i, value in enumerate(series) if i >= 20]
    return max(ratios, default=float("inf"))


def stable(results: Results, limit: float) -> Finding:
    """The VQ loss at four times the learning rate."""
    own = [largest_jump(result) for result in of_seeds(results, "fast-adaptive")]
    fixed = [largest_jump(result) for result in of_seeds(results, "fast-fixed")]
    return Finding(
        "a stable VQ loss",
        f"at four times the learning rate it never exceeds {limit:g} times its running median, in every seed",
        max(own) <= limit,
        f"adaptive {', '.join(f'{v:.2f}' for v in own)}; fixed {', '.join(f'{v:.2f}' for v in fixed)}",
    )


def level_free(results: Results, factor: float) -> Finding:
    """The input at a tenth and at ten times its level."""

    def last(result: Result, name: str) -> float:
        values = [value for _, value in result.series(name)]
        return mean(values[-5:])

    texts, held = [], True
    for kind in ("adaptive", "fixed"):
        if kind == "fixed" and "level-fixed-1" not in results:
            continue
        trials = [results[f"level-{kind}-{gain}"] for gain in ("0.1", "1", "10")]
        commitments = [last(trial, "loss/commitment") for trial in trials]
        perplexities = [last(trial, "model/perplexity") for trial in trials]
        if kind == "adaptive":
            held = all(max(v) <= factor * min(v) for v in (commitments, perplexities))
        texts.append(
            f"{kind}: commitment {', '.join(f'{v:.2g}' for v in commitments)}, "
            f"perplexity {', '.join(f'{v:.0f}' for v in perplexities)}"
        )
    return Finding(
        "the input's level does not matter",
        f"at 0.1, 1 and 10 times the level, commitment and perplexity stay within a factor of {factor:g}",
        held,
        "; ".join(texts),
    )


def no_seams(results: Results, limit: float) -> Finding:
    """Whole recordings, joined from chunks."""
    ratios = {family: error_at_joints(results[family].folder) for family in ("vae", "hvae", "vqvae")}
    return Finding(
        "no seams",
        f"the squared error where chunks are joined is at most {limit:g} times that of the same places elsewhere",
        max(ratios.values()) <= limit,
        ", ".join(f"{name} {ratio:.2f}" for name, ratio in ratios.items()),
    )


# Each claim with its threshold, and that of `--quick`: 150 steps of small batches leave codes unused that come into use
# later, and a batch of 8 has more chance in its loss than one of 16.
CLAIMS: list[tuple[Callable[[Results, Any], Finding], Any, Any]] = [
    (better_than_pooled, 8.0, 5.0),
    (better_than_study, 2.0, 2.0),
    (near_ceiling, 2.0, 3.0),
    (near_rate_limit, 1.0, 4.0),
    (active, 0.8, 0.8),
    (levels_earn, 0.0, 0.0),
    (codebooks, (0.6, 0.95), (0.4, 0.85)),
    (stable, 3.0, 6.0),
    (level_free, 1.5, 1.5),
    (no_seams, 1.0, 1.0),
]
