"""The curves of metrics.jsonl as charts, with how to read them."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from train.report.charts import Chart, Series, line_chart

# Sections in their order, and the beginnings of the names that belong there; the first that fits takes a name.
SECTIONS = {
    "Held-out recordings": ("valid/si_sdr", "valid/stft", "valid/mel", "valid/mse", "valid/cosine"),
    "Losses": ("loss/",),
    "Schedules": ("optim/learning_rate", "weight/"),
    "Latents": ("model/", "valid/kl", "valid/active", "valid/codes", "valid/perplexity"),
    "Optimisation and speed": ("optim/", "perf/", "data/"),
}
# Shares of the batch or of the data that no curve helps to see.
LEFT_OUT = ("valid/silent", "perf/save_stall")

# What is good and what is a symptom. N is a level of latents, 0 the finest, or a codebook, 0 the first.
READING = {
    "valid/si_sdr": "dB, higher is better. Falling while the loss falls: overfitting. Near -50: silence or noise.",
    "valid/stft": "Lower is better. Flat while the MSE falls: the output is dull.",
    "valid/mel": "Lower is better. For mel models it says more than SI-SDR, because their phases are made up.",
    "valid/mse": "Lower is better.",
    "valid/cosine": "Towards 1 is better; near 0 the output has nothing to do with the input.",
    "valid/not_finite": "Share of the chunks. Above 0: what the model makes of them is not finite; it exploded.",
    "loss/total": "Falls, then levels out. It may rise while KL weights rise; later, the learning rate is too high.",
    "loss/mse": "Falls with the held-out MSE. Falling alone: overfitting.",
    "loss/stft": "Falls more slowly than the MSE. Flat: the output is dull; raise weights.stft.",
    "loss/kl": "Rises, falls as its weight rises, then is steady. At 0 or at the free nats: posterior collapse.",
    "loss/kl_N": "Per level. At 0 or at its free nats: that level has collapsed.",
    "loss/likelihood": "Falls, below 0 too. Rising: lower the learning rate.",
    "loss/commitment": "Jumps when the codebooks start, then is steady. Growing without end: the encoder runs away.",
    "loss/anchor": "Near 0. Growing: the latents' variance drifts; raise weights.anchor.",
    "loss/diversity": "Near 0. High: few codes take everything.",
    "weight/kl": "The warm-up of the KL weight (beta).",
    "weight/kl_N": "The warm-up of each level's KL weight (beta).",
    "optim/learning_rate": "Warm-up, then the chosen schedule.",
    "model/kl_nats_per_second": "Steady above 0. At 0 the latents carry nothing: collapse.",
    "model/kl_N_nats_per_second": "Steady above 0 on each level. A level at 0 carries nothing.",
    "model/kl_N_balance": "Uneven at first, then 1.",
    "model/sigma": "Falls towards the root of the MSE. Near 1: weights.likelihood is too low.",
    "model/perplexity": "Codes in effective use. 1 before the codebooks start, then a good part of their size; falling "
    "towards 1: codebook collapse.",
    "model/dead_codes": "Falls to a few. High: make the codebooks smaller.",
    "model/restarts": "Bursts at the start, then 0 or a few. Never 0: codes find no vectors to stand for.",
    "model/latent_variance": "Steady once the codebooks have started. Towards 0, or growing without end: unhealthy.",
    "model/effective_beta": "Near 1. At 10, its bound: the latents' variance has collapsed.",
    "valid/kl_nats_per_second_N": "What each level says beyond its prior. Near 0: the level carries nothing.",
    "valid/kl_bits_per_second_N": "The same in bits.",
    "valid/active_units_N": "Share of the channels that carry something. Falling: collapse, channel by channel.",
    "valid/codes_used_N": "Share of the codes in use. Low: a smaller codebook would do.",
    "valid/perplexity_N": "Codes in effective use. High in the first and 1 in the last: fewer codebooks would do.",
    "valid/bits_per_second_N": "Of codes of fixed length: it follows from the model's shape.",
    "valid/entropy_bits_per_second_N": "Near the fixed rate. Far below it: codes are used unevenly.",
    "optim/gradient_norm": "Falls, with single spikes. Mostly above optim.clip, or growing: unstable.",
    "optim/skipped": "Should be 0: steps whose gradient was not finite or exploded.",
    "optim/exploded": "Should be 0 or rare.",
    "perf/chunks_per_second": "Flat. Falling: look at the wait for data, and at who else uses the machine.",
    "perf/data_wait_share": "Below 0.05. Higher: the data are too slow.",
    "data/damaged_chunks": "Should be 0; see damage.jsonl.",
}


@dataclass
class Section:
    """Charts that belong together, and the names of values that were 0 throughout."""

    title: str
    charts: list[Chart]
    zeros: list[str]


def pattern(name: str) -> str:
    """A name without its number of level or codebook: loss/kl_3 is loss/kl_N."""
    return re.sub(r"_\d+(?=_|$)", "_N", name)


def number(name: str) -> str:
    """That number."""
    found = re.search(r"_(\d+)(?=_|$)", name)
    return found[1] if found else ""


def restarts(points: list[dict[str, Any]]) -> list[float]:
    """Steps at which another attempt goes on."""
    return [b["step"] for a, b in pairwise(points) if a.get("attempt") != b.get("attempt") and "step" in b]


def placed(names: Sequence[str]) -> dict[str, list[str]]:
    """Names by section, in the sections' order; those without one are left out."""
    rest = [name for name in names if not name.startswith(LEFT_OUT)]
    result = {}
    for title, beginnings in SECTIONS.items():
        mine = [name for beginning in beginnings for name in rest if name.startswith(beginning)]
        result[title] = list(dict.fromkeys(mine))
        rest = [name for name in rest if name not in mine]
    return result


def values(points: list[dict[str, Any]], name: str) -> list[tuple[float, float]]:
    """(step, value) where there is one."""
    return [(p["step"], p[name]) for p in points if name in p and "step" in p]


def is_zero(points: list[tuple[float, float]]) -> bool:
    """Whether there is nothing to see."""
    return all(not y for _, y in points)


def curves_of_run(points: list[dict[str, Any]]) -> list[Section]:
    """All curves of a run: levels and codebooks of one value share a chart."""
    names = sorted({name for point in points for name in point})
    marks = restarts(points)
    sections = []
    for title, own in placed(names).items():
        zeros = [name for name in own if is_zero(values(points, name))]
        groups: dict[str, list[str]] = {}
        for name in own:
            if name not in zeros:
                groups.setdefault(pattern(name), []).append(name)
        charts = []
        for kind, members in groups.items():
            members.sort(key=lambda name: int(number(name) or 0))
            lines = [Series(number(name) or name, values(points, name)) for name in members]
            heading = kind if len(members) > 1 else members[0]
            charts.append(line_chart(heading, lines, marks=marks, text=READING.get(kind, "")))
        sections.append(Section(title, [chart for chart in charts if chart], zeros))
    return [section for section in sections if section.charts]


def curves_of_runs(runs: dict[str, list[dict[str, Any]]]) -> list[Section]:
    """The curves that runs share by name, a line a run; values of single levels and codebooks are left out."""
    names = sorted({name for points in runs.values() for point in points for name in point if not number(name)})
    sections = []
    for title, own in placed(names).items():
        charts = []
        for name in own:
            # A run without the value keeps its place, so that a run has one look in all charts.
            lines = [Series(run, values(points, name)) for run, points in runs.items()]
            if not all(is_zero(line.points) for line in lines):
                charts.append(line_chart(name, lines, text=READING.get(name, ""), keep=True))
        sections.append(Section(title, [chart for chart in charts if chart], []))
    return [section for section in sections if section.charts]
