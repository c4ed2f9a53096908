"""A summary of an evaluation in sentences: the first thing to read on a report page."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from train.evaluation.measuring.metrics import MONO_MIX
from train.evaluation.report.measures import KNOWN, OF_PASSAGES, Measure, is_number
from train.evaluation.report.rendering import figure

# The same thresholds as in docs/evaluation.md.
GOOD_MEL, GOOD_STFT, GOOD_SI_SDR, BAD_SI_SDR = 0.4, 0.6, 20.0, 5.0
# An STFT distance above this is a large error; silence scores about 3.
BAD_STFT = 1.0
# A model whose mel distance is above this share of the best floor's is hardly better than that floor.
FLOOR_SHARE = 0.8
# A level that adds less than this SI-SDR (dB) and mel distance (natural-log units) is idle.
IDLE_DB, IDLE_MEL = 0.5, 0.02
# Below these shares of active channels or used codes, a level or codebook has collapsed.
FEW_UNITS, FEW_CODES = 0.1, 0.5
# Silence that is reconstructed at this level or above is an audible hiss.
HISS_DBFS = -50.0
# The first of these that was measured says whether the model or Opus sounds better.
JUDGES = (KNOWN["zimtohrli"], KNOWN["mel"])
# Beyond the first and last row of Opus, rates up to this ratio count as those of the row.
SAME_RATE = 1.15


@dataclass(frozen=True)
class Finding:
    """A sentence, and whether the result is good."""

    good: bool
    text: str


def verdict(summary: dict[str, Any]) -> list[Finding]:
    """Findings on the reconstruction, the latents, silence and the prior, from the content of metrics.json."""
    idle = [*idle_levels(summary)]
    latents = [*idle, *collapses(summary["latents"], praise=not idle)]
    yardsticks = [*against_opus(summary), *against_linear(summary)]
    return [*yardsticks, *closeness(summary), *latents, *hiss(summary), *prior(summary)]


def listening_row(summary: dict[str, Any]) -> dict[str, Any]:
    """The model's own row of the passages; empty without passages."""
    return next((row for row in summary.get("passages", {}).get("rows", []) if row["kind"] == "model"), {})


def sent_row(summary: dict[str, Any]) -> dict[str, Any]:
    """The row of the passages that has what a listener gets: that of the model's files, else the model's own."""
    rows = summary.get("passages", {}).get("rows", [])
    return next((row for row in rows if row["kind"] == "file"), listening_row(summary))


def nearest_opus(summary: dict[str, Any]) -> dict[str, Any] | None:
    """The row of Opus whose bit rate is nearest to that of the model, by their ratio; None without rates."""
    rate = sent_row(summary).get("kbit_per_second")
    rows = [row for row in summary.get("passages", {}).get("rows", []) if row["kind"] == "opus"]
    if not rows or not is_number(rate):
        return None
    return min(rows, key=lambda row: abs(math.log(row["kbit_per_second"] / max(rate, 1e-6))))


def opus_at(summary: dict[str, Any], rate: float, key: str) -> float | None:
    """A measure of Opus at a bit rate in kbit/s, between its rows by the logarithm of the rate.

    None without rows, and for rates that are further than SAME_RATE from all of them.
    """
    found = [row for row in summary.get("passages", {}).get("rows", []) if row["kind"] == "opus"]
    points = sorted((row["kbit_per_second"], row[key]) for row in found if is_number(row.get(key)))
    if not points or not points[0][0] / SAME_RATE <= rate <= points[-1][0] * SAME_RATE:
        return None
    rates, values = zip(*points, strict=True)
    return float(np.interp(math.log(rate), np.log(rates), values))


def opus_rate_for(summary: dict[str, Any], key: str, value: float) -> float | None:
    """The lowest bit rate in kbit/s at which Opus has this value of a measure, between its rows; None beyond them."""
    found = [row for row in summary.get("passages", {}).get("rows", []) if row["kind"] == "opus"]
    points = sorted((row["kbit_per_second"], row[key]) for row in found if is_number(row.get(key)))
    for (low, first), (high, second) in pairwise(points):
        if first != second and (first - value) * (second - value) <= 0:
            return float(low * (high / low) ** ((value - first) / (second - first)))
    return None


def in_words(measure: Measure, own: float, other: float) -> str:
    """Two values of a measure in words, with its unit."""
    name, _, unit = measure.heading.partition(", ")
    name, unit = (f"{name} {unit}", "") if unit == "MOS" else (name, f" {unit}" if unit else "")
    return f"{name} {figure(own)} against {figure(other)}{unit}"


def against_opus(summary: dict[str, Any]) -> Iterator[Finding]:
    """Where the model stands against Opus at its rate, by Zimtohrli if it was measured, else by mel distance.

    By its files, where they were measured: posterior means are never sent.
    """
    own, near = sent_row(summary), nearest_opus(summary)
    if near is None:
        return
    rate = own["kbit_per_second"]
    kbits = f"{figure(rate)} kbit/s{' of KL' if own.get('rate_of') == 'KL' else ''}"
    pairs = {
        measure: (own[measure.key], other)
        for measure in (*JUDGES, *(one for one in OF_PASSAGES if one not in JUDGES))
        if is_number(own.get(measure.key)) and (other := opus_at(summary, rate, measure.key)) is not None
    }
    if not pairs:
        nearest = f"{figure(near['kbit_per_second'])} kbit/s"
        yield Finding(
            False, f"The model's rate of {kbits} is not compared with Opus, whose nearest row is at {nearest}."
        )
        return
    judge, (mine, theirs) = next(iter(pairs.items()))
    name = judge.heading.replace(",", "")
    better = mine > theirs if judge.higher else mine < theirs
    listed = "; ".join(in_words(one, a, b) for one, (a, b) in pairs.items())
    start = f"Better than Opus at its rate by {name}" if better else f"A listener would pick Opus, by {name}"
    what = "a file of this model" if own["kind"] == "file" else "this model"
    text = f"{start}. At {kbits}, {what} against Opus between its rows: {listed}."
    if (same := opus_rate_for(summary, judge.key, mine)) is not None:
        text += f" Opus has the same {name} at about {figure(same, 2)} kbit/s."
    if own.get("rate_of") == "KL":
        text += " The KL is the rate of draws, and this quality is that of the means."
    yield Finding(better, text)


def against_linear(summary: dict[str, Any]) -> Iterator[Finding]:
    """Whether training has added anything to the best linear code with as many values a second."""
    own = listening_row(summary)
    rows: list[dict[str, Any]] = summary.get("passages", {}).get("rows", [])
    other: dict[str, Any] = next((row for row in rows if row["kind"] == "linear"), {})
    mel = summary.get("representation") == "mel"
    keys = ("mel",) if mel else ("si_sdr", "mel")
    if not all(is_number(row.get(key)) for row in (own, other) for key in keys):
        return
    wins = [own["mel"] < other["mel"]] + ([] if mel else [own["si_sdr"] > other["si_sdr"]])
    values = [f"mel distance {figure(own['mel'])} against {figure(other['mel'])}"]
    values += [] if mel else [f"SI-SDR {figure(own['si_sdr'])} against {figure(other['si_sdr'])} dB"]
    what = f"the best linear code with as many values a second ({figure(round(other.get('values_per_second', 0)))})"
    start = "The model is better than" if all(wins) else "The model is behind" if not any(wins) else "Against"
    rest = "" if all(wins) or not any(wins) else " the model is better in one measure and behind in the other"
    yield Finding(all(wins), f"{start} {what}{rest}: {', '.join(values)}.")


def closeness(summary: dict[str, Any]) -> Iterator[Finding]:
    """How close the reconstruction is: spectra, and the waveform unless the model invents phases (mel models)."""
    row = summary["reconstruction"]
    mel, stft = row.get("mel"), row.get("stft")
    si_sdr = None if summary.get("representation") == "mel" else row.get("si_sdr")
    deaf = [row for name, row in summary["floors"].items() if name != MONO_MIX]  # they ignore the input
    floors = [row["mel"] for row in deaf if is_number(row.get("mel"))]
    if is_number(mel):
        if floors and mel > FLOOR_SHARE * min(floors):
            yield Finding(False, f"Spectra are hardly closer than an untrained baseline: mel distance {figure(mel)}.")
        elif mel > GOOD_MEL:
            yield Finding(
                False, f"Spectra are recognisable but not close: mel distance {figure(mel)}; below {GOOD_MEL} is good."
            )
        else:
            yield Finding(True, f"Spectra are close to those of the recordings: mel distance {figure(mel)}.")
    if is_number(stft):
        good = f"STFT distance {figure(stft)}; below {GOOD_STFT} is good"
        if stft > BAD_STFT:
            yield Finding(False, f"Short-time spectra have large errors: {good}.")
        elif stft > GOOD_STFT:
            yield Finding(False, f"Short-time spectra have audible errors: {good}.")
        else:
            yield Finding(True, f"Short-time spectra are close: STFT distance {figure(stft)}.")
    if is_number(si_sdr):
        share = f"{100 / (1 + 10 ** (si_sdr / 10)):.2g} % of the output is error"
        if si_sdr >= GOOD_SI_SDR:
            yield Finding(True, f"The waveform is reproduced closely: {share} (SI-SDR {figure(si_sdr)} dB).")
        elif si_sdr >= BAD_SI_SDR:
            good = f"SI-SDR {figure(si_sdr)} dB; above {GOOD_SI_SDR:g} dB is good"
            yield Finding(False, f"The waveform is reproduced with audible error: {share} ({good}).")
        else:
            good = f"SI-SDR {figure(si_sdr)} dB; below {BAD_SI_SDR:g} dB is poor"
            yield Finding(False, f"The waveform is not reproduced: {good}.")


def idle_levels(summary: dict[str, Any]) -> Iterator[Finding]:
    """Idle levels: coarse levels that add less than IDLE_DB and IDLE_MEL to the reconstruction."""
    known = {tuple(row["known"]): row for row in summary["levels"]}
    whole = known.get(tuple(range(len(summary["latents"]))))
    for count in range(1, len(summary["latents"])):
        part = known.get(tuple(range(count)))
        if whole and part and is_idle(whole, part):
            rest = [*range(count, len(summary["latents"]))]
            gain = f"{whole['si_sdr'] - part['si_sdr']:+.2f} dB"
            name, adds, its = (
                (f"Idle level: level {rest[0]}", "adds", "Its")
                if len(rest) == 1
                else (f"Idle levels: levels {rest[0]} to {rest[-1]} together", "add", "Their")
            )
            yield Finding(
                False,
                f"{name} {adds} only {gain} of SI-SDR. {its} channels may be active, but the reconstruction hardly "
                "depends on them.",
            )
            return


def is_idle(whole: dict[str, Any], part: dict[str, Any]) -> bool:
    """Whether a reconstruction from some levels (`part`) is as good as one from all (`whole`)."""
    needed = (whole.get("si_sdr"), part.get("si_sdr"), whole.get("mel"), part.get("mel"))
    if not all(map(is_number, needed)):
        return False
    return whole["si_sdr"] - part["si_sdr"] < IDLE_DB and part["mel"] - whole["mel"] < IDLE_MEL


def collapses(latents: list[dict[str, Any]], praise: bool = True) -> Iterator[Finding]:
    """Levels with few active channels, and codebooks with few codes in use; with `praise`, also that there are none.

    Beside an idle level, praise would contradict what it says, although the channels of that level may be active.
    """
    for key, least, text in (
        (
            "active_units",
            FEW_UNITS,
            "Posterior collapse: only {1} of the channels of level {0} are active (vary with the input).",
        ),
        ("codes_used", FEW_CODES, "Codebook collapse: codebook {0} uses only {1} of its codes."),
    ):
        values = [row[key] if is_number(row.get(key)) else math.nan for row in latents]
        for place, value in enumerate(values):
            if value < least:
                yield Finding(False, text.format(place, f"{100 * value:.3g} %"))
        if praise and values and all(value >= least for value in values):
            what = (
                "channels of each level are active (vary with the input)"
                if key == "active_units"
                else "codes of each codebook are in use"
            )
            share = f"at least {100 * min(values):.3g} % of" if min(values) < 1 else "all of"
            yield Finding(True, f"No collapse: {share} the {what}.")


def hiss(summary: dict[str, Any]) -> Iterator[Finding]:
    """Whether silent chunks are reconstructed as silence."""
    silent = summary.get("silent", {})
    before, after = silent.get("reference_dbfs"), silent.get("output_dbfs")
    if is_number(before) and is_number(after):
        text = f"Silence at {before:.0f} dBFS is reconstructed at {after:.0f} dBFS"
        if after >= HISS_DBFS > before:
            yield Finding(False, f"{text}: an audible hiss.")
        else:
            yield Finding(True, f"{text}.")


def prior(summary: dict[str, Any]) -> Iterator[Finding]:
    """How similar samples from the prior are to recordings, by the Fréchet distance."""
    drawn = summary.get("samples", {}).get("frechet")
    floor = summary.get("frechet", {}).get("noise_floor")
    if is_number(drawn) and is_number(floor):
        text = f"Fréchet distance {figure(drawn)}; two halves of the recordings are {figure(floor)} apart"
        if drawn <= 1.5 * floor:
            yield Finding(True, f"Samples from the prior are similar to recordings: {text}.")
        else:
            yield Finding(False, f"Samples from the prior differ from recordings: {text}.")
