"""The headline values and tables of a page, from the content of metrics.json."""

import itertools
import math
from typing import Any

from train.evaluation.drawing.bands import BY_BAND, band_charts
from train.evaluation.drawing.codes import Codebook
from train.evaluation.report.measures import (
    OF_PASSAGES,
    OF_PHASE,
    PERCEPTUAL,
    SPEECH,
    columns,
    interval,
    is_number,
    mean_use,
)
from train.evaluation.report.rendering import figure
from train.evaluation.report.verdict import GOOD_MEL, GOOD_SI_SDR, GOOD_STFT, listening_row, nearest_opus, sent_row

# Rows of what is sent, by their names in metrics.json; the reconstruction is of posterior means.
SENT = {"draws": "sent as draws", "file": "sent as a file"}
# The verdict on a difference, after minus before.
VERDICTS = {"better": "better", "worse": "worse", "none": "no difference", "unknown": "too few recordings to tell"}


def extent(summary: dict[str, Any]) -> str:
    """The number of chunks and recordings in words."""
    counts = {"chunk": summary["chunks"], "recording": len(summary["recordings"])}
    return " of ".join(f"{figure(count)} {what}{'' if count == 1 else 's'}" for what, count in counts.items())


def table_rows(summary: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """The rows of the first table: the reconstruction, of each set and channel, from some levels only, and floors."""
    own, levels = summary["reconstruction"], len(summary["latents"])
    rows = [("reconstruction", own)]
    rows += [(f"set: {name}", row) for name, row in summary.get("sets", {}).items()]
    rows += [(f"channel: {name}", row) for name, row in summary.get("channels", {}).items()]
    rows += [(SENT[name], row) for name, row in summary.get("sent", {}).items() if name in SENT]
    for level in summary["levels"]:
        # Large splits measure levels on a part of the chunks, so there all levels together get a row too.
        if len(level["known"]) < levels or level["si_sdr"] != own["si_sdr"]:
            rows.append((level_name(level["known"], levels), level))
    return rows + [(f"floor: {name}", row) for name, row in summary["floors"].items()]


def level_name(known: list[int], levels: int) -> str:
    """The row heading of a reconstruction from the known levels out of `levels`."""
    if len(known) == levels:
        return "all levels"
    return f"level{'s' if len(known) > 1 else ''} {', '.join(map(str, known))} only"


def intervals_of(summary: dict[str, Any], row: dict[str, Any]) -> dict[str, tuple[float, float] | None]:
    """The intervals of a row by measure; None where there is none to show."""
    return {measure.key: interval(summary, row, measure.key) for measure in columns([row])}


def key_figures(summary: dict[str, Any]) -> list[tuple[str, str, str]]:
    """The headline values: name, value and a remark each."""
    own = summary["reconstruction"]
    quiet = summary["floors"].get("silence", {})
    found = interval(summary, own, "si_sdr")
    mel = summary.get("representation") == "mel"
    remark = "not meaningful: the model invents phases" if mel else f"good: above {GOOD_SI_SDR:g}"
    if found:
        remark = (
            f"{100 * summary.get('interval_coverage', 0.95):g} %: {figure(found[0])} to {figure(found[1])}; {remark}"
        )
    keys = [
        ("SI-SDR", f"{figure(own['si_sdr'])} dB", remark),
        ("mel distance", figure(own["mel"]), f"good: below {GOOD_MEL:g}; silence: {figure(quiet.get('mel'))}"),
        ("STFT distance", figure(own["stft"]), f"good: below {GOOD_STFT:g}; silence: {figure(quiet.get('stft'))}"),
    ]
    if is_number(own.get("kl_bits_per_second")):
        keys.append(("information", f"{figure(own['kl_bits_per_second'] / 1000)} kbit/s", "KL of all levels"))
    if is_number(own.get("bits_per_second")):
        entropy = own.get("entropy_bits_per_second")
        remark = f"{figure(entropy / 1000)} with entropy coding" if is_number(entropy) else "fixed-length codes"
        keys.append(("rate", f"{figure(own['bits_per_second'] / 1000)} kbit/s", remark))
    written = summary.get("sent", {}).get("file", {}).get("file_bits_per_second")
    if is_number(written):
        keys.append(("file", f"{figure(written / 1000)} kbit/s", "encode, all bytes of the recordings' files"))
    used = [level["codes_used"] for level in summary["latents"] if is_number(level.get("codes_used"))]
    if used:
        keys.append(("codes in use", f"{100 * sum(used) / len(used):.0f} %", f"mean of {len(used)} codebooks"))
    heard = sent_row(summary)
    for measure in PERCEPTUAL:
        if is_number(heard.get(measure.key)):
            count = summary["passages"]["visqol_passages" if measure.key == "visqol" else "count"]
            what = "files of " if heard["kind"] == "file" else ""
            remark = f"1 to 5, over {what}{count} passage{'' if count == 1 else 's'}"
            keys.append((measure.heading, figure(heard[measure.key]), remark))
    speech = summary.get("speech", {})
    for name in SPEECH:
        if is_number(speech.get(name.key)):
            keys.append((name.heading, figure(speech[name.key]), f"mean of {speech['recordings']} recordings"))
    return keys


def recordings_table(summary: dict[str, Any]) -> dict[str, Any]:
    """One row per recording, the worst SI-SDR first: measures, intervals, and the use of its latents."""
    rows = [{**recording, **mean_use(recording.get("latents", []))} for recording in summary["recordings"]]
    rows.sort(key=lambda row: row["si_sdr"] if is_number(row.get("si_sdr")) else math.inf)
    return {
        "columns": columns(rows),
        "rows": [(row, intervals_of(summary, row)) for row in rows],
        "silent": bool(summary["silent_chunks"]),
    }


def passages_table(summary: dict[str, Any]) -> dict[str, Any] | None:
    """The model beside Opus and the best linear code: rows, columns, charts by band, and facts; None without passages.

    Rows are in the order of their rates; those without a rate are last.
    """
    found = summary.get("passages")
    if not found:
        return None
    rows = sorted(found["rows"], key=lambda row: row.get("kbit_per_second", math.inf))
    near = nearest_opus(summary)
    drawn = [row for row in found["rows"] if row["kind"] != "opus" or row is near]
    return found | {
        "rows": rows,
        "columns": [measure for measure in OF_PASSAGES if any(measure.key in row for row in rows)],
        "charts": band_charts(found["band_edges_hz"], [(row["name"], row) for row in drawn]),
        "drawn": drawn,
        "of_kl": listening_row(summary).get("rate_of") == "KL",
        "files": any(row["kind"] == "file" for row in rows),
        "bands": band_names(found["band_edges_hz"]),
        "by_band": {key: title for key, (title, _) in BY_BAND.items()},
    }


def phase_table(summary: dict[str, Any]) -> dict[str, Any] | None:
    """What the adversarial phase changed: a row per measure, and the Fréchet distances; None without it."""
    found = summary.get("before_phase")
    if not found:
        return None
    rows = [(measure, found["measures"][measure.key]) for measure in OF_PHASE if measure.key in found["measures"]]
    units = {over: units_text(over) for _, row in rows if (over := row["interval_over"]) and row["interval"]}
    return found | {"rows": rows, "over": " and ".join(units.values()), "words": VERDICTS}


def units_text(over: str) -> str:
    """What an interval resampled, in words."""
    return {
        "recordings": "whole recordings",
        "blocks": "blocks of ten chunk lengths",
    }.get(over, f"single {over}")


def band_names(edges: list[float]) -> list[str]:
    """The bands between edges in Hz, in words."""
    words = [f"{edge:g}" if edge < 1000 else f"{edge / 1000:.3g}k" for edge in edges]
    return [f"{low} to {top}" for low, top in itertools.pairwise(words)]


def latent_table(latents: list[dict[str, Any]], books: list[Codebook]) -> dict[str, Any]:
    """One row per level or codebook, with bars for values that have a known maximum.

    Args:
        latents: The `latents` of the summary, measured on the chunks.
        books: The codebooks as used in training; empty for levels.
    """
    rows = [dict(row) for row in latents]
    whole = {"active_units": 1.0, "codes_used": 1.0}
    for row, book in zip(rows, books, strict=False):
        row |= {"trained_codes_used": book.used, "trained_perplexity": book.perplexity, "size": book.size}
        whole |= {"trained_codes_used": 1.0, "perplexity": book.size, "trained_perplexity": book.size}
    names = list(dict.fromkeys(key for row in rows for key, value in row.items() if is_number(value)))
    return {
        "kind": "codebook" if books else "level",
        "columns": columns([dict.fromkeys(names, 0.0)]),
        "rows": [
            (row, row.get("intervals", {}), {key: row[key] / whole[key] for key in whole if key in row}) for row in rows
        ],
    }
