"""The curves of metrics.jsonl as charts, each with advice on how to read it."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, NamedTuple

from train.evaluation.drawing.charts import Chart, Series, line_chart

# Sections in page order, each with prefixes of metric names; a name goes to the first section with a matching prefix.
SECTIONS = {
    "Held-out recordings": (
        *("valid/si_sdr", "valid/stft", "valid/mel", "valid/mse", "valid/cosine"),
        *("valid/mid_si_sdr", "valid/side_si_sdr", "valid/mid_mel", "valid/side_mel"),
        *("valid/mid_level", "valid/side_level", "valid/frechet", "valid/zimtohrli"),
        *("loss/prior", "valid/loss", "model/bits_per_second", "valid/bits_per_second"),
    ),
    "Adversarial phase": (
        *("adversarial/real_score", "adversarial/fake_score", "valid/real_score", "valid/fake_score"),
        *("adversarial/", "loss/adversarial", "loss/features", "valid/features"),
    ),
    "Losses": ("loss/",),
    "Schedules": ("optim/learning_rate", "weight/"),
    "Latents": ("model/", "valid/kl", "valid/active", "valid/codes", "valid/perplexity"),
    "Optimisation and speed": ("optim/", "perf/", "data/"),
}
# Metrics of a run that share a chart: its key in READING, and the name of the line.
TOGETHER = {
    "valid/mid_si_sdr": ("mid and side si_sdr", "mid"),
    "valid/side_si_sdr": ("mid and side si_sdr", "side"),
    "valid/mid_mel": ("mid and side mel", "mid"),
    "valid/side_mel": ("mid and side mel", "side"),
    "valid/mid_level": ("mid and side level", "mid"),
    "valid/side_level": ("mid and side level", "side"),
    "adversarial/real_score": ("scores", "recordings, training"),
    "adversarial/fake_score": ("scores", "reconstructions, training"),
    "valid/real_score": ("scores", "recordings, held out"),
    "valid/fake_score": ("scores", "reconstructions, held out"),
    "loss/features": ("features", "training"),
    "valid/features": ("features", "held out"),
    "loss/prior": ("prior", "training"),
    "valid/loss": ("prior", "held out"),
    "model/bits_per_second": ("bits", "training"),
    "valid/bits_per_second": ("bits", "held out"),
}
# Held-out values of the phase alone.
PHASE_ONLY = {"valid/real_score", "valid/fake_score", "valid/features"}
# A run of a prior has this one. Its bits a second are a measure; those of a VQ-VAE are a constant.
OF_PRIOR, BITS = "loss/prior", "valid/bits_per_second"
# Not charted: constants, values of no use as a curve, and values that another chart shows in another unit.
LEFT_OUT = ("valid/silent", "valid/kl_nats", BITS, "perf/save_stall")


class Reading(NamedTuple):
    """The title of a curve, and advice: what is good, and what is a symptom."""

    title: str
    text: str


# N is a level of latents, 0 the finest, or a codebook, 0 the first.
READING = {
    "valid/si_sdr": Reading(
        "SI-SDR, held out",
        "dB, higher is better. Falling while the loss falls: overfitting. Near -50: silence or noise.",
    ),
    "valid/stft": Reading("STFT distance, held out", "Lower is better. Flat while the MSE falls: the output is dull."),
    "valid/mel": Reading(
        "mel distance, held out",
        "Lower is better. For mel models it means more than SI-SDR, because they invent phases.",
    ),
    "valid/mse": Reading("MSE, held out", "Lower is better."),
    "valid/cosine": Reading(
        "cosine, held out",
        "Closer to 1 is better. Near 0: the output is unrelated to the input.",
    ),
    "valid/not_finite": Reading(
        "not finite, held out",
        "Share of the chunks whose reconstruction is not finite. Above 0: the model has diverged.",
    ),
    "mid and side si_sdr": Reading(
        "SI-SDR of mid and side, held out",
        "dB, higher is better. Side is lower, as it is weaker. It stays while mid improves: the model makes mono.",
    ),
    "mid and side mel": Reading(
        "mel distance of mid and side, held out",
        "Lower is better. Side stays while mid improves: the model makes mono.",
    ),
    "mid and side level": Reading(
        "level error of mid and side, held out", "dB, best near 0. Side far below 0: the sound becomes narrow."
    ),
    "valid/mid_si_sdr": Reading("SI-SDR of mid, held out", "dB, higher is better."),
    "valid/side_si_sdr": Reading("SI-SDR of side, held out", "dB, higher is better. Side is weaker than mid."),
    "valid/mid_mel": Reading("mel distance of mid, held out", "Lower is better."),
    "valid/side_mel": Reading("mel distance of side, held out", "Lower is better. Flat: the model makes mono."),
    "valid/mid_level": Reading("level error of mid, held out", "dB, best near 0."),
    "valid/side_level": Reading("level error of side, held out", "dB, best near 0. Far below: the sound is narrow."),
    "valid/frechet": Reading("Fréchet distance, held out", "Lower is better. Of sets of chunks, not of pairs."),
    "valid/zimtohrli": Reading("Zimtohrli, held out", "Mean opinion score, 1 to 5, higher is better."),
    "prior": Reading(
        "loss of the prior",
        "Lower is better. Held out rising while training falls: it learns recordings by heart; end earlier with "
        "--until loss:STEPS.",
    ),
    "bits": Reading(
        "bits per second",
        "Lower is better: what the codes of a second take behind an ideal entropy coder. Read it like the loss.",
    ),
    "loss/prior": Reading("loss of the prior, training", "Falls. Far below that of held-out recordings: overfitting."),
    "valid/loss": Reading("loss of the prior, held out", "Lower is better. Rising: overfitting."),
    "model/bits_per_second": Reading("bits per second, training", "Falls."),
    "valid/bits_per_second": Reading("bits per second, held out", "Lower is better. Rising: overfitting."),
    "model/explained": Reading(
        "explained share of the velocity",
        "1 is perfect, 0 as good as predicting the mean. It stays below 1, since the noise cannot be known.",
    ),
    "scores": Reading(
        "scores of the discriminator",
        "Recordings above reconstructions; equal: it cannot tell them apart. Training recordings far above held-out "
        "ones: it memorises.",
    ),
    "features": Reading("distance of the discriminator's features", "Falls, or stays steady as the features change."),
    "adversarial/discriminator_loss": Reading(
        "loss of the discriminator",
        "With hinge, 2 is chance. At 0: it wins, and the model learns nothing from it; lower adversarial.rate.",
    ),
    "adversarial/real_score": Reading("score of recordings, training", "Above that of reconstructions."),
    "adversarial/fake_score": Reading("score of reconstructions, training", "Below that of recordings."),
    "adversarial/gradient_norm": Reading("gradient norm of the discriminator", "Steady. Growing: lower its rate."),
    "valid/real_score": Reading("score of recordings, held out", "Near that in training. Far below: it memorises."),
    "valid/fake_score": Reading("score of reconstructions, held out", "Below that of recordings."),
    "valid/features": Reading("distance of features, held out", "Falls, or stays steady as the features change."),
    "loss/adversarial": Reading("adversarial loss", "Neither at 0 nor growing: both sides keep up with each other."),
    "loss/features": Reading("distance of features", "Falls, or stays steady as the features change."),
    "loss/total": Reading(
        "weighted sum of the losses",
        "Falls, then levels out. It may rise while KL weights rise. A later rise: the learning rate is too high.",
    ),
    "loss/mse": Reading("MSE", "Falls together with the held-out MSE. Falls while that rises: overfitting."),
    "loss/stft": Reading("STFT loss", "Falls more slowly than the MSE. Flat: the output is dull; raise weights.stft."),
    "loss/kl": Reading(
        "KL, nats per input value",
        "Rises, falls as its weight rises, then stays steady. At 0 or at the free nats: posterior collapse.",
    ),
    "loss/kl_N": Reading(
        "KL by level, nats per input value",
        "One line per level. At 0 or at its free nats: that level has collapsed.",
    ),
    "loss/likelihood": Reading("negative log-likelihood", "Falls, possibly below 0. Rising: lower the learning rate."),
    "loss/commitment": Reading(
        "commitment",
        "Jumps when the codebooks start, then stays steady. Growing without bound: the encoder diverges.",
    ),
    "loss/anchor": Reading(
        "anchor on the latents' variance",
        "Near 0. Growing: the latents' variance drifts; raise weights.anchor.",
    ),
    "loss/diversity": Reading("diversity of codes", "Near 0. High: a few codes are used for most frames."),
    "loss/levels": Reading("levels of the upper bands", "Falls, then levels out. At 1: the latents do not carry them."),
    "weight/kl": Reading("weight of the KL", "The warm-up of the KL weight (beta)."),
    "weight/kl_N": Reading("weight of the KL by level", "The warm-up of each level's KL weight (beta)."),
    "optim/learning_rate": Reading("learning rate", "Warm-up, then the chosen schedule."),
    "model/kl_nats_per_second": Reading(
        "KL, nats/s", "Steady above 0. At 0: collapse, the latents carry no information."
    ),
    "model/kl_N_nats_per_second": Reading(
        "KL by level, nats/s",
        "Steady above 0 on each level. A level at 0 carries no information.",
    ),
    "model/kl_N_balance": Reading("balance of the levels", "Uneven at first, then 1."),
    "model/sigma": Reading(
        "learned standard deviation of the output",
        "Falls towards the square root of the MSE. Near 1: weights.likelihood is too low.",
    ),
    "model/perplexity": Reading(
        "perplexity of the codes",
        "Effective number of codes in use. 1 before the codebooks start, then a large part of their size. Falling "
        "towards 1: codebook collapse.",
    ),
    "model/dead_codes": Reading("dead codes", "Falls to a few. High: make the codebooks smaller."),
    "model/restarts": Reading(
        "restarted codes",
        "Many at the start, then 0 or a few. Never 0: the codebooks have more codes than the data needs.",
    ),
    "model/levels_error": Reading(
        "error of the levels", "Falls, then levels out. At 1: the latents do not carry them."
    ),
    "model/levels_perplexity": Reading("perplexity of the levels' codes", "As that of the other codes."),
    "model/levels_dead_codes": Reading("dead codes of the levels", "Falls to a few."),
    "model/latent_variance": Reading(
        "variance S of the latents",
        "Steady once the codebooks have started. Falling towards 0: collapse. Growing without bound: divergence.",
    ),
    "model/effective_beta": Reading(
        "effective beta of the commitment",
        "Near 1. At 10, its bound: the latents' variance has collapsed.",
    ),
    "valid/kl_nats_per_second_N": Reading(
        "KL by level, held out, nats/s",
        "Information of each level beyond its prior. Near 0: the level carries no information.",
    ),
    "valid/kl_bits_per_second_N": Reading(
        "KL by level, held out, bit/s",
        "Information of each level beyond its prior. Near 0: the level carries no information.",
    ),
    "valid/active_units_N": Reading(
        "active units by level, held out",
        "Share of the channels that vary with the input. Unused channels carry no information. Falling: collapse.",
    ),
    "valid/codes_used_N": Reading(
        "codes used, held out",
        "Share of the codes in use. Low: a smaller codebook is enough.",
    ),
    "valid/perplexity_N": Reading(
        "perplexity by codebook, held out",
        "Effective number of codes in use. High in the first codebook and 1 in the last: fewer codebooks are enough.",
    ),
    "valid/entropy_bits_per_second_N": Reading(
        "rate by entropy, held out, bit/s",
        "Near the rate of fixed-length codes. Far below it: codes are used unevenly.",
    ),
    "optim/gradient_norm": Reading(
        "gradient norm before clipping",
        "Falls, with occasional spikes. Mostly above optim.clip, or growing: training is unstable.",
    ),
    "optim/skipped": Reading(
        "skipped steps, share", "Should be 0: steps skipped because the gradient was not finite or exploded."
    ),
    "optim/exploded": Reading("exploded steps, share", "Should be 0 or rare."),
    "perf/chunks_per_second": Reading(
        "chunks per second",
        "Flat. Falling: check the wait for data and other load on the machine.",
    ),
    "perf/data_wait_share": Reading(
        "waiting for data, share", "Below 0.05. Higher: reading the data limits the speed."
    ),
    "perf/mfu": Reading(
        "model FLOPs utilisation",
        "Share of the GPUs' peak. Flat. Low: batches too small, float32 instead of bf16, or waiting for data.",
    ),
    "perf/gpu_memory_gb": Reading("GPU memory, GB", "Flat after the first steps."),
    "perf/gpu_hours": Reading("GPU hours", "A straight line, over all attempts."),
    "data/damaged_chunks": Reading("damaged chunks", "Should be 0. damage.jsonl lists them."),
}


@dataclass
class Section:
    """Related charts, and the names of values that were 0 throughout."""

    title: str
    charts: list[Chart]
    zeros: list[str]


def pattern(name: str) -> str:
    """A metric name with its level or codebook number replaced by N: loss/kl_3 gives loss/kl_N."""
    return re.sub(r"_\d+(?=_|$)", "_N", name)


def number(name: str) -> str:
    """The level or codebook number in a metric name, or an empty string."""
    found = re.search(r"_(\d+)(?=_|$)", name)
    return found[1] if found else ""


def restarts(points: list[dict[str, Any]]) -> list[float]:
    """Steps at which another attempt continues the run."""
    return [b["step"] for a, b in pairwise(points) if a.get("attempt") != b.get("attempt") and "step" in b]


def phase_start(points: list[dict[str, Any]]) -> float | None:
    """The step at which the adversarial phase began: the last evaluation before its first values; None without one."""
    first = next((n for n, p in enumerate(points) if any(name.startswith("adversarial/") for name in p)), None)
    before = [p["step"] for p in points[:first] if "valid/silent" in p and not PHASE_ONLY & p.keys()]
    return before[-1] if first is not None and before else None


def placed(names: Sequence[str]) -> dict[str, list[str]]:
    """Metric names by section, in the order of SECTIONS; names that match no section are left out."""
    rest = [name for name in names if not name.startswith(LEFT_OUT) or (name == BITS and OF_PRIOR in names)]
    result = {}
    for title, beginnings in SECTIONS.items():
        mine = [name for beginning in beginnings for name in rest if name.startswith(beginning)]
        result[title] = list(dict.fromkeys(mine))
        rest = [name for name in rest if name not in mine]
    return result


def values(points: list[dict[str, Any]], name: str) -> list[tuple[float, float]]:
    """The points (step, value) of one metric."""
    return [(p["step"], p[name]) for p in points if name in p and "step" in p]


def is_zero(points: list[tuple[float, float]]) -> bool:
    """Whether all values are 0."""
    return all(not y for _, y in points)


def line_name(name: str) -> str:
    """The legend entry for a metric of one level or codebook."""
    if name in TOGETHER:
        return TOGETHER[name][1]
    kind = "codebook" if any(word in name for word in ("codes", "perplexity", "valid/bits", "entropy")) else "level"
    return f"{kind} {number(name)}" if number(name) else name


def merged(lines: list[Series]) -> list[Series]:
    """Merges lines with the same points into one, because they would hide each other."""
    courses: dict[tuple, list[Series]] = {}
    for line in lines:
        courses.setdefault(tuple(line.points), []).append(line)
    return [
        Series(", ".join([same[0].name, *(s.name.split()[-1] for s in same[1:])]), same[0].points)
        for same in courses.values()
    ]


def drawn(name: str, lines: list[Series], **more: Any) -> Chart | None:
    """The chart of a metric, or of the metrics of all levels or codebooks (name with N)."""
    reading = READING.get(name, Reading(name, ""))
    chart = line_chart(reading.title, lines, text=reading.text, **more)
    return replace(chart, key=name) if chart and reading.title != name else chart


def curves_of_run(points: list[dict[str, Any]], measured: Mapping[str, Any] | None = None) -> list[Section]:
    """All curves of a run. The levels or codebooks of one metric share a chart.

    Args:
        points: Lines of metrics.jsonl.
        measured: Final values of the report by name; the held-out charts show them as a dashed line.
    """
    names = sorted({name for point in points for name in point})
    phase = phase_start(points)
    marks = {"mark": restarts(points), "mark phase": [] if phase is None else [phase]}
    sections = []
    for title, own in placed(names).items():
        zeros = [name for name in own if is_zero(values(points, name))]
        groups: dict[str, list[str]] = {}
        for name in own:
            if name not in zeros:
                groups.setdefault(TOGETHER.get(name, (pattern(name),))[0], []).append(name)
        charts = []
        for kind, members in groups.items():
            members.sort(key=lambda name: int(number(name) or 0))
            lines = merged([Series(line_name(name), values(points, name)) for name in members])
            final = (measured or {}).get(kind.removeprefix("valid/")) if kind.startswith("valid/") else None
            level = ("this report", float(final)) if isinstance(final, int | float) else None
            key = kind if kind in READING else members[0]
            charts.append(drawn(key, lines, marks=marks, level=level))
        sections.append(Section(title, [chart for chart in charts if chart], zeros))
    return [section for section in sections if section.charts]


# An HVAE logs these by level and a VAE as one value. Charts of several runs show the sum over levels.
SUMMED = {"loss/kl_N": "loss/kl", "model/kl_N_nats_per_second": "model/kl_nats_per_second"}


def with_sums(point: dict[str, Any]) -> dict[str, Any]:
    """A line of metrics.jsonl with the sums over levels added."""
    sums: dict[str, float] = {}
    for name, value in point.items():
        if (whole := SUMMED.get(pattern(name))) and whole not in point:
            sums[whole] = sums.get(whole, 0.0) + value
    return {**point, **sums}


def curves_of_runs(runs: dict[str, list[dict[str, Any]]]) -> list[Section]:
    """The curves of several runs: one chart per metric, one line per run.

    Metrics of levels are summed where a VAE logs one value; other metrics of single levels and of codebooks are left
    out. Step 0, before any training, is left out too, because it would set the scale.
    """
    runs = {run: [with_sums(point) for point in points if point.get("step")] for run, points in runs.items()}
    names = sorted({name for points in runs.values() for point in points for name in point if not number(name)})
    sections = []
    for title, own in placed(names).items():
        charts = []
        for name in own:
            # A run without the value keeps its place, so that each run has the same line style in all charts.
            lines = [Series(run, values(points, name)) for run, points in runs.items()]
            if not all(is_zero(line.points) for line in lines):
                charts.append(drawn(name, lines, keep=True))
        sections.append(Section(title, [chart for chart in charts if chart], []))
    return [section for section in sections if section.charts]
