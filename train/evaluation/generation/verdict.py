"""What the measures of generated recordings say, in one sentence."""

from typing import Any

from train.evaluation.generation.measures.copying import NEAR_SHARE
from train.evaluation.generation.summary import GENERATED, HELD_OUT, WITHOUT
from train.evaluation.report.measures import is_number
from train.evaluation.report.rendering import figure
from train.evaluation.report.verdict import Finding

# Pieces whose distances from each other are below this share of those of recordings are much alike.
ALIKE = 0.7
# By the verdict on coherence.
COHERENT = {
    "coherent": "they are as coherent as recordings",
    "drifting": "they are not coherent, as their seconds differ more than those of a recording",
    "monotonous": "they are monotonous, as their seconds differ less than those of a recording",
    "unknown": "there are too few recordings to tell whether they are coherent",
}


def findings(summary: dict[str, Any]) -> list[Finding]:
    """The sentence, and warnings about silence and about recordings that are all alike."""
    own, held_out = summary["rows"][GENERATED], summary["rows"][HELD_OUT]
    if not own["windows"]:
        return [Finding(False, "The generated recordings are silent.")]
    parts = [*distance(summary), *coherent(own), *copied(own)]
    text = "; ".join(text for _, text in parts)
    result = [Finding(all(good for good, _ in parts), f"{text[:1].upper()}{text[1:]}.")]
    silent, usual = (row["silent_windows"] / max(1, row["windows"] + row["silent_windows"]) for row in (own, held_out))
    if silent > 2 * usual + 0.05:
        text = f"{100 * silent:.0f} % of the generated windows are silent; of held-out recordings {100 * usual:.0f} %."
        result.append(Finding(False, text))
    apart = [row.get("diversity") for row in (own, held_out)]
    if all(map(is_number, apart)) and apart[0] < ALIKE * apart[1]:
        what = f"their mean distance is {figure(apart[0])}, that of held-out recordings {figure(apart[1])}"
        result.append(Finding(False, f"The generated recordings are alike: {what}."))
    return result


def distance(summary: dict[str, Any]) -> list[tuple[bool, str]]:
    """How far generated recordings are from held-out ones, relative to the floor and to the autoencoder's prior."""
    own, other = (summary["rows"][name].get("kernel_distance") for name in (GENERATED, WITHOUT))
    floor = (summary["kernel_floor"] or {}).get("high")
    if not is_number(own):
        return [(False, "there are too few recordings to measure a distance")]
    text, good = f"the generated recordings are at a kernel distance of {figure(own)} from held-out ones", True
    if is_number(floor) and floor > 0:
        good = own <= floor
        times = "no farther than" if good else f"{figure(own / floor)} times as far as"
        text += f", {times} random parts of these are from each other ({figure(floor)})"
    if is_number(other) and other > 0:
        share = max(0.0, own) / other
        text += f", and {figure(share, 2)} times as far as draws from the autoencoder's own prior ({figure(other)})"
        good = good and share < 1
    return [(good, text)]


def coherent(own: dict[str, Any]) -> list[tuple[bool, str]]:
    """Whether generated recordings hold together over all lags."""
    found = [row["verdict"] for row in own["coherence"]]
    if not found:
        return []
    worst = next((word for word in ("drifting", "monotonous", "unknown") if word in found), "coherent")
    lag = next((row["seconds"] for row in own["coherence"] if row["verdict"] == worst), 0)
    where = f" ({figure(lag)} s apart)" if worst in ("drifting", "monotonous") else ""
    return [(worst == "coherent", f"{COHERENT[worst]}{where}")]


def copied(own: dict[str, Any]) -> list[tuple[bool, str]]:
    """Whether generated recordings hold copies of training chunks."""
    share, ends = own.get("near_share"), own["intervals"].get("near_share")
    if not is_number(share):
        return []
    words = f"{100 * share:.3g} % of their windows are nearer to the training data than 99 % of held-out ones are"
    if ends is None:
        return [(share <= NEAR_SHARE, f"{words}, too few to tell copies")]
    if ends[0] > NEAR_SHARE:
        return [(False, f"some may be copies: {words}, 1 % by chance")]
    return [(True, f"no copies were found: {words}, 1 % by chance")]
