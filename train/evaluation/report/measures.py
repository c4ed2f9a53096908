"""The columns of report tables: headings and directions of the known measures, and other values of a summary."""

from dataclasses import dataclass
from typing import Any, TypeGuard


@dataclass(frozen=True)
class Measure:
    """A column: the key in metrics.json, its heading, and whether higher is better (None: no direction)."""

    key: str
    heading: str
    higher: bool | None = None

    @property
    def arrow(self) -> str:
        """The direction in words, or an empty string."""
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
PERCEPTUAL = (Measure("zimtohrli", "Zimtohrli, MOS", True), Measure("visqol", "ViSQOL, MOS", True))
LEVEL_ERROR = Measure("level_error_high", "level error above 4 kHz, dB", False)
SIDE = (Measure("side_mel", "mel distance of side", False), Measure("side_level", "level of side, dB"))
KNOWN = {measure.key: measure for measure in (*MEASURES, *SIDE, LEVEL_ERROR, *PERCEPTUAL, *SPEECH)}
# Columns of the table of passages, after the rate.
OF_PASSAGES = (
    *(KNOWN[key] for key in ("si_sdr", "mel", "stft")),
    *SIDE,
    LEVEL_ERROR,
    *PERCEPTUAL,
)
LOG_MEL_HIGH = Measure("log_mel_high", "log-mel error above 4 kHz", False)
# Rows of the table of what the adversarial phase changed.
OF_PHASE = (*(KNOWN[key] for key in ("si_sdr", "mel", "stft")), LOG_MEL_HIGH, LEVEL_ERROR, KNOWN["zimtohrli"])
# Numbers in a row that describe what was measured, not how well.
NOT_MEASURES = ("chunks", "silent", "not_finite", "silent_chunks", "source", "recordings")
# The same value in two units: pages show the second.
IN_BITS = {"kl_nats_per_second": "kl_bits_per_second"}
HEADINGS = {
    "level": "level error, dB",
    "kl_nats_per_second": "KL, nats/s",
    "active_units": "active units, share",
    "codes_used": "codes used, share",
    "perplexity": "perplexity, codes",
    "frechet": "Fréchet distance",
    "kl_bits_per_second": "KL, bit/s",
    "bits_per_second": "rate, bit/s",
    "entropy_bits_per_second": "rate by entropy, bit/s",
    "file_bits_per_second": "file, bit/s",
    "mean_active_units": "active units, mean share",
    "mean_codes_used": "codes used, mean share",
    "mean_perplexity": "perplexity, mean",
    "trained_codes_used": "in training: codes used, share",
    "trained_perplexity": "in training: perplexity",
}


def heading(key: str) -> str:
    """The column heading for a key of a summary."""
    return KNOWN[key].heading if key in KNOWN else HEADINGS.get(key, key.replace("_", " "))


def is_number(value: Any) -> TypeGuard[float]:
    """Whether a value is an int or a float, but not a bool."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def columns(rows: list[dict[str, Any]]) -> list[Measure]:
    """The measures that occur in the rows: known ones in their order, then other numbers by name."""
    here = [measure for key, measure in KNOWN.items() if any(key in row for row in rows)]
    more = {key for row in rows for key, value in row.items() if is_number(value)} - KNOWN.keys() - {*NOT_MEASURES}
    more -= {nats for nats, bits in IN_BITS.items() if bits in more}
    return here + [Measure(key, heading(key)) for key in sorted(more)]


def interval(summary: dict[str, Any], row: dict[str, Any], key: str) -> tuple[float, float] | None:
    """The interval of a measure, from the row or from `intervals` of the summary; None without one or for a point."""
    whole = summary.get("intervals")
    places = [row.get("intervals")]
    if row is summary.get("reconstruction") and isinstance(whole, dict):
        places += [whole.get("reconstruction"), whole]
    for place in places:
        found = place.get(key) if isinstance(place, dict) else None
        if isinstance(found, dict):
            found = [found.get("low"), found.get("high")]
        if isinstance(found, list | tuple) and len(found) == 2 and all(map(is_number, found)):
            low, high = float(found[0]), float(found[1])
            return (low, high) if low < high else None  # a fixed value has no spread
    return None


def interval_note(summary: dict[str, Any]) -> str:
    """A sentence on how the intervals of the reconstruction were computed; empty without intervals."""
    words = {
        "recordings": "from resampling whole recordings. They show how the mean might differ on other recordings of "
        "this kind",
        "blocks": "from resampling passages of ten chunks, because there are fewer than five recordings. Other "
        "recordings may differ by more",
        "chunks": "from resampling single chunks, because there are too few recordings. They are too narrow",
    }
    how = words.get(summary["reconstruction"].get("interval_over", ""))
    return f"Small figures are {100 * summary.get('interval_coverage', 0.95):g} % intervals {how}." if how else ""


def mean_use(latents: list[dict[str, Any]]) -> dict[str, float]:
    """Means over levels or codebooks: `mean_active_units`, or `mean_codes_used` and `mean_perplexity`."""
    return {
        f"mean_{key}": sum(level[key] for level in latents) / len(latents)
        for key in ("active_units", "codes_used", "perplexity")
        if latents and all(is_number(level.get(key)) for level in latents)
    }
