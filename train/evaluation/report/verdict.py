"""What an evaluation amounts to, in sentences: for those who look at a page for ten seconds."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from train.evaluation.report.measures import is_number
from train.evaluation.report.rendering import figure

# As in docs/evaluation.md.
GOOD_MEL, GOOD_STFT, GOOD_SI_SDR, BAD_SI_SDR = 0.4, 0.6, 20.0, 5.0
# The share of the nearest floor's mel distance from which on a model is hardly better than that floor.
HARDLY = 0.8
# SI-SDR or mel distance that a level must change to be worth it, dB and natural-log units.
WORTH_DB, WORTH_MEL = 0.5, 0.02
FEW_UNITS, FEW_CODES = 0.1, 0.5
HISS_DBFS = -50.0


@dataclass(frozen=True)
class Finding:
    """A sentence, and whether it is good news."""

    good: bool
    text: str


def verdict(summary: dict[str, Any]) -> list[Finding]:
    """What stands in metrics.json in words: how close, and what is wrong with latents, silence and the prior."""
    return [*closeness(summary), *idle_levels(summary), *collapses(summary["latents"]), *hiss(summary), *prior(summary)]


def closeness(summary: dict[str, Any]) -> Iterator[Finding]:
    """Of spectra, and of waves where the model is to follow these: mel models make phases up."""
    own = summary["reconstruction"]
    mel = own.get("mel")
    si_sdr = None if summary.get("representation") == "mel" else own.get("si_sdr")
    floors = [row["mel"] for row in summary["floors"].values() if is_number(row.get("mel"))]
    if is_number(mel):
        if floors and mel > HARDLY * min(floors):
            yield Finding(False, f"Spectra are hardly closer to the recordings than nothing learnt: mel {figure(mel)}.")
        elif mel > GOOD_MEL:
            yield Finding(
                False, f"Spectra are recognisable, not close: mel distance {figure(mel)}, below {GOOD_MEL} is good."
            )
        else:
            yield Finding(True, f"Spectra are close to the recordings': mel distance {figure(mel)}.")
    if is_number(si_sdr):
        share = f"{100 / (1 + 10 ** (si_sdr / 10)):.2g} % of the output is error"
        if si_sdr >= GOOD_SI_SDR:
            yield Finding(True, f"Waves are followed closely: {share} (SI-SDR {figure(si_sdr)} dB).")
        elif si_sdr >= BAD_SI_SDR:
            yield Finding(
                False, f"Waves are followed with audible error: {share}; SI-SDR above {GOOD_SI_SDR:g} dB is good."
            )
        else:
            yield Finding(False, f"Waves are not followed: SI-SDR {figure(si_sdr)} dB, above {BAD_SI_SDR:g} they are.")


def idle_levels(summary: dict[str, Any]) -> Iterator[Finding]:
    """Levels of latents without which the reconstruction is as good."""
    known = {tuple(row["known"]): row for row in summary["levels"]}
    whole = known.get(tuple(range(len(summary["latents"]))))
    for count in range(1, len(summary["latents"])):
        part = known.get(tuple(range(count)))
        if whole and part and changes_nothing(whole, part):
            rest = [*range(count, len(summary["latents"]))]
            names = f"Level {rest[0]} adds" if len(rest) == 1 else f"Levels {rest[0]} to {rest[-1]} together add"
            gain = f"{whole['si_sdr'] - part['si_sdr']:+.2f} dB"
            yield Finding(False, f"{names} next to nothing to the reconstruction ({gain}): the hierarchy idles.")
            return


def changes_nothing(whole: dict[str, Any], part: dict[str, Any]) -> bool:
    """Whether a reconstruction through some levels is as good as one through all."""
    needed = (whole.get("si_sdr"), part.get("si_sdr"), whole.get("mel"), part.get("mel"))
    if not all(map(is_number, needed)):
        return False
    return whole["si_sdr"] - part["si_sdr"] < WORTH_DB and part["mel"] - whole["mel"] < WORTH_MEL


def collapses(latents: list[dict[str, Any]]) -> Iterator[Finding]:
    """Levels and codebooks that are hardly used."""
    for key, least, sign in (
        ("active_units", FEW_UNITS, "Posterior collapse: level {} uses {} of its channels."),
        ("codes_used", FEW_CODES, "Codebook {} uses {} of its codes only."),
    ):
        values = [row[key] if is_number(row.get(key)) else math.nan for row in latents]
        for place, value in enumerate(values):
            if value < least:
                yield Finding(False, sign.format(place, f"{100 * value:.3g} %"))
        if values and all(value >= least for value in values):
            what = "channels of each level" if key == "active_units" else "codes of each codebook"
            yield Finding(True, f"No collapse: {100 * min(values):.3g} % of the {what} or more are in use.")


def hiss(summary: dict[str, Any]) -> Iterator[Finding]:
    """Silence that does not come out silent."""
    silent = summary.get("silent", {})
    before, after = silent.get("reference_dbfs"), silent.get("output_dbfs")
    if is_number(before) and is_number(after):
        told = f"Silence at {before:.0f} dBFS comes out at {after:.0f} dBFS"
        if after >= HISS_DBFS > before:
            yield Finding(False, f"{told}: an audible hiss.")
        else:
            yield Finding(True, f"{told}.")


def prior(summary: dict[str, Any]) -> Iterator[Finding]:
    """How far draws from the prior are from recordings, by the Fréchet distance."""
    drawn = summary.get("samples", {}).get("frechet")
    floor = summary.get("frechet", {}).get("noise_floor")
    if is_number(drawn) and is_number(floor):
        told = f"Fréchet distance {figure(drawn)}, two halves of the recordings have {figure(floor)}"
        if drawn <= 1.5 * floor:
            yield Finding(True, f"Samples from the prior are about as varied and alike as recordings: {told}.")
        else:
            yield Finding(False, f"Samples from the prior are unlike recordings: {told}.")
