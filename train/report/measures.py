"""The measures of a report as tables: what is known of each, and what more a summary has."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Measure:
    """A column: the key in metrics.json, its heading, and whether more is better (None: neither)."""

    key: str
    heading: str
    higher: bool | None = None

    @property
    def arrow(self) -> str:
        """Which way is better, in words."""
        return "" if self.higher is None else "higher is better" if self.higher else "lower is better"


MEASURES = (
    Measure("si_sdr", "SI-SDR, dB", True),
    Measure("si_sdr_median", "SI-SDR median, dB", True),
    Measure("stft", "STFT distance", False),
    Measure("mel", "mel distance", False),
    Measure("mse", "MSE", False),
    Measure("cosine", "cosine", True),
)
SPEECH = (Measure("pesq", "PESQ", True), Measure("stoi", "STOI", True))
KNOWN = {measure.key: measure for measure in (*MEASURES, *SPEECH)}
# Numbers in a row that say what was measured, not how well.
NOT_MEASURES = ("chunks", "silent", "not_finite", "silent_chunks", "source")
HEADINGS = {
    "kl_nats_per_second": "KL, nats/s",
    "active_units": "active units, share",
    "codes_used": "codes used, share",
    "perplexity": "perplexity, codes",
    "frechet": "Fréchet distance",
    "kl_bits_per_second": "KL, bit/s",
    "bits_per_second": "codes of fixed length, bit/s",
    "entropy_bits_per_second": "codes by their entropy, bit/s",
    "reference_dbfs": "reference, dBFS",
    "output_dbfs": "output, dBFS",
}


def heading(key: str) -> str:
    """How people call a value of a summary."""
    return KNOWN[key].heading if key in KNOWN else HEADINGS.get(key, key.replace("_", " "))


def is_number(value: Any) -> bool:
    """Whether a value is a number, not a truth value."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def columns(rows: list[dict[str, Any]]) -> list[Measure]:
    """The measures that rows have: the known ones, then others that a summary may bring."""
    here = [measure for key, measure in KNOWN.items() if any(key in row for row in rows)]
    more = {key for row in rows for key, value in row.items() if is_number(value)} - KNOWN.keys() - {*NOT_MEASURES}
    return here + [Measure(key, heading(key)) for key in sorted(more)]


def interval(summary: dict[str, Any], row: dict[str, Any], key: str) -> tuple[float, float] | None:
    """The interval of a measure, where the summary has one: in the row, or in `intervals` of the whole."""
    whole = summary.get("intervals")
    places = [row.get("intervals")]
    if row is summary.get("reconstruction") and isinstance(whole, dict):
        places += [whole.get("reconstruction"), whole]
    for place in places:
        found = place.get(key) if isinstance(place, dict) else None
        if isinstance(found, dict):
            found = [found.get("low"), found.get("high")]
        if isinstance(found, list | tuple) and len(found) == 2 and all(map(is_number, found)):
            return float(found[0]), float(found[1])
    return None


def others(summary: dict[str, Any]) -> dict[str, float]:
    """Numbers of the whole evaluation that have no table of their own, by heading; nested ones by both names."""
    result: dict[str, float] = {}
    for key, value in summary.items():
        if key in ("intervals", "floors", "reconstruction"):
            continue
        if is_number(value) and key not in (*NOT_MEASURES, "format"):
            result[heading(key)] = value
        elif isinstance(value, dict):
            result |= {
                f"{heading(key)}, {heading(name)}": number for name, number in value.items() if is_number(number)
            }
    return result
