"""The claims about quality: each is a function from the results of the trials to a finding."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import dropwhile, pairwise
from statistics import mean, median
from typing import Any

from benchmarks.quality.chunk_boundaries import error_at_joints
from benchmarks.quality.plan import SEEDS
from benchmarks.quality.rate_limit import bits_per_frame, si_sdr_at_rate
from benchmarks.trials.table import of_files
from benchmarks.trials.trial import Result
from train.evaluation.report.verdict import opus_at

Results = Mapping[str, Result]
# A level of an HVAE counts as active if at least this share of its units is active.
LEVEL_ACTIVE = 0.5
# A loss is compared with the median over this number of points before it.
WINDOW = 100


@dataclass(frozen=True)
class Finding:
    """A claim, compared with the measurements.

    Attributes:
        name: A short name.
        claim: The claim with its threshold.
        holds: Whether the claim holds.
        figures: The measured values.
    """

    name: str
    claim: str
    holds: bool
    figures: str


def si_sdr(result: Result) -> float:
    """Held-out SI-SDR in dB, a mean over all chunks."""
    return result.summary["reconstruction"]["si_sdr"]


def of_seeds(results: Results, name: str) -> list[Result]:
    """The results of a trial for every seed; only the first in the quick form, whose trials have a number of steps."""
    seeds = SEEDS[:1] if results[f"{name}-{SEEDS[0]}"].trial.get("steps") else SEEDS
    return [results[f"{name}-{seed}"] for seed in seeds]


def better_than_pooled(results: Results, margin: float) -> Finding:
    """Compares each family with the pooled VAE of the study."""
    base = si_sdr(results["study-pooled-vae"])
    gains = {family: si_sdr(results[family]) - base for family in ("vae", "hvae", "vqvae")}
    return Finding(
        "beats the pooled VAE",
        f"every family's held-out SI-SDR is at least {margin:g} dB above the pooled VAE's",
        min(gains.values()) >= margin,
        f"pooled {base:.1f} dB; " + ", ".join(f"{name} {gain:+.1f}" for name, gain in gains.items()),
    )


def better_than_study(results: Results, margin: float) -> Finding:
    """Compares each family with the preset of the same family in the study."""
    pairs = {"vae": "study-pooled-vae", "hvae": "study-hvae", "vqvae": "study-vqvae"}
    gains = {family: si_sdr(results[family]) - si_sdr(results[other]) for family, other in pairs.items()}
    return Finding(
        "beats the study's family",
        f"every family's SI-SDR is at least {margin:g} dB above the study's preset of that family",
        min(gains.values()) >= margin,
        ", ".join(f"{name} {gain:+.1f} dB" for name, gain in gains.items()),
    )


def near_ceiling(results: Results, margin: float) -> Finding:
    """Compares VAE and HVAE with autoencoders of the same trunk without KL."""
    short = results["vae"].trial.get("steps")  # the quick form has no vae-ceiling
    families = ("hvae",) if short else ("vae", "hvae")
    found = {family: si_sdr(results[f"{family}-ceiling"]) - si_sdr(results[family]) for family in families}
    return Finding(
        "near its ceiling",
        f"VAE and HVAE are at most {margin:g} dB below an autoencoder of the same trunk without KL",
        max(found.values()) <= margin,
        ", ".join(f"{name} {gap:.1f} dB below" for name, gap in found.items()),
    )


def near_rate_limit(results: Results, margin: float) -> Finding:
    """Compares the VQ-VAE with an ideal code of the same rate on the latents of its unquantized trunk."""
    own, ceiling = results["vqvae"], results["vqvae-ceiling"]
    limit = si_sdr_at_rate(ceiling.folder, bits_per_frame(own.folder))
    return Finding(
        "codes near the limit of their rate",
        f"the VQ-VAE is at most {margin:g} dB below its unquantized trunk with an ideal Gaussian code of the same rate",
        si_sdr(own) >= limit - margin,
        f"{si_sdr(own):.1f} dB, limit {limit:.1f} dB; unquantized {si_sdr(ceiling):.1f} dB",
    )


def active(results: Results, share: float) -> Finding:
    """Checks the active units for every seed; also shows those of the plain recipe."""

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
    """Checks that reconstructions get worse with each further level, from the coarsest, that is sampled."""
    rows = []
    for result in of_seeds(results, "hvae-posterior"):
        kept = [row for row in result.summary["levels"] if 0 in row["known"]]  # the finest level is known
        kept.sort(key=lambda row: -len(row["known"]))
        rows.append([row["si_sdr"] for row in kept])
    return Finding(
        "every level earns its place",
        "with every further level drawn from the prior, the coarsest first, SI-SDR falls, in every seed",
        bool(rows) and all(len(row) > 2 and all(a > b for a, b in pairwise(row)) for row in rows),
        "; ".join(" > ".join(f"{value:.2f}" for value in row) for row in rows) + " dB",
    )


def codebooks(results: Results, least: tuple[float, float]) -> Finding:
    """Checks perplexity and use of 1,024 codes on the held-out chunks."""

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
    """The largest ratio of a loss to the median of the points before it.

    Points before the loss has started (0), in the first quarter of the run, and with fewer than 20 points before them
    do not count.
    """
    series = [value for step, value in result.series(name) if step > result.steps // 4]
    series = list(dropwhile(lambda value: value == 0, series))
    ratios = [value / median(series[max(0, i - WINDOW) : i]) for i, value in enumerate(series) if i >= 20]
    return max(ratios, default=float("inf"))


def stable(results: Results, limit: float) -> Finding:
    """Checks the VQ loss at four times the learning rate."""
    own = [largest_jump(result) for result in of_seeds(results, "fast-adaptive")]
    fixed = [largest_jump(result) for result in of_seeds(results, "fast-fixed")]
    return Finding(
        "a stable VQ loss",
        f"at four times the learning rate it never exceeds {limit:g} times its running median, in every seed",
        max(own) <= limit,
        f"adaptive {', '.join(f'{v:.2f}' for v in own)}; fixed {', '.join(f'{v:.2f}' for v in fixed)}",
    )


def level_free(results: Results, factor: float) -> Finding:
    """Compares inputs at a tenth and at ten times their level."""

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
    """Checks the error at chunk boundaries of whole recordings."""
    ratios = {family: error_at_joints(results[family].folder) for family in ("vae", "hvae", "vqvae")}
    return Finding(
        "no seams",
        f"the squared error where chunks are joined is at most {limit:g} times that of the same places elsewhere",
        max(ratios.values()) <= limit,
        ", ".join(f"{name} {ratio:.2f}" for name, ratio in ratios.items()),
    )


def beside_opus(results: Results, margin: float) -> Finding:
    """Compares files of the presets for files with Opus at their rate, by Zimtohrli."""
    texts, gaps = [], []
    for name in ("vae-codec", "hvae"):
        own = of_files(results[name])
        rate, heard = own["kbit_per_second"], own["zimtohrli"]
        other = opus_at(results[name].summary, rate, "zimtohrli")
        if heard is None or other is None:
            return Finding(
                "files beside Opus", "not measured", False, f"{name}: no Zimtohrli of files or of Opus near them"
            )
        gaps.append(other - heard)
        texts.append(f"{name} {heard:.2f} at {rate:.1f} kbit/s, Opus {other:.2f}")
    return Finding(
        "files beside Opus",
        f"by Zimtohrli, files of vae_codec_tiny and hvae_tiny are at most {margin:g} below Opus at their rate",
        max(gaps) <= margin,
        "; ".join(texts),
    )


# Each claim with its threshold and the threshold of `--quick`, where 150 steps of small batches leave some codes unused
# and the loss of a batch of 8 varies more than that of 16.
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
    (beside_opus, 0.1, 0.2),
]
