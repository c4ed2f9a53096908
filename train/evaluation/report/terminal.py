"""Terminal output of an evaluation or a comparison."""

import sys
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from shards.text import printable
from train.evaluation.report.measures import MEASURES, OF_PASSAGES, is_number
from train.evaluation.report.rendering import figure
from train.evaluation.report.tables import table_rows

# The median is only on the page.
COLUMNS = [measure for measure in MEASURES if measure.key != "si_sdr_median"]

# Headings of columns that would be too wide.
SHORT = {"stft": "STFT", "mel": "mel", "level_error_high": "dB >4k"}


def print_table(title: str, first: str, rows: dict[str, dict[str, Any]], rated: bool = False) -> None:
    """Prints a table of measures, one row per name, with the bit rate if `rated`; short names fit into 80 columns."""
    table = Table(title=Text(printable(title), style="table.title"))
    table.add_column(first)
    for measure in COLUMNS:
        table.add_column(measure.heading.replace(" distance", ""), justify="right", no_wrap=True)
    if rated:
        table.add_column("kbit/s", justify="right", no_wrap=True)
    for name, row in rows.items():
        cells = [figure(row.get(measure.key)) for measure in COLUMNS]
        table.add_row(Text(printable(name)), *cells, *([kbit_per_second(row)] if rated else []))
    Console(file=sys.stdout).print(table)


def kbit_per_second(row: dict[str, Any]) -> str:
    """The bit rate of codes or of the KL, in kbit/s; a dash without one."""
    bits = row.get("bits_per_second", row.get("kl_bits_per_second"))
    return figure(bits / 1000 if is_number(bits) else None)


def print_passages(summary: dict[str, Any]) -> None:
    """Prints the model beside the yardsticks, if passages were measured."""
    found = summary.get("passages")
    if not found:
        print("codes:   no recording has half a second that is not silent, so there is no comparison with other codes")
        return
    shown = [measure for measure in OF_PASSAGES if any(measure.key in row for row in found["rows"])]
    what = f"{found['count']} passage{'' if found['count'] == 1 else 's'}"
    table = Table(title=Text(f"beside other codes, on {what} of {figure(found['seconds'])} s in all"))
    for name in ("", "kbit/s", *(SHORT.get(measure.key, measure.heading.partition(",")[0]) for measure in shown)):
        table.add_column(name, justify="right" if name else "left", no_wrap=bool(name))
    for row in found["rows"]:
        cells = [figure(row.get(key)) for key in ("kbit_per_second", *(measure.key for measure in shown))]
        table.add_row(Text(printable(row["name"])), *cells)
    Console(file=sys.stdout).print(table)
    for note in found["notes"]:
        print(printable(note))


def print_summary(summary: dict[str, Any]) -> None:
    """Prints the main values of metrics.json."""
    row = summary["reconstruction"]
    title = f"{summary['run']} ({summary['family']}) on {summary['chunks']} {summary['kind']} chunks"
    print_table(title, "", {name.removeprefix("floor: "): row for name, row in table_rows(summary)})
    if written := summary.get("sent", {}).get("file"):
        rate = figure(written["file_bits_per_second"] / 1000)
        print(f"file:    {rate} kbit/s, all bytes of {written['recordings']} encoded recordings")
    if interval := row["intervals"]["si_sdr"]:
        low, high = interval
        print(f"SI-SDR:  {row['si_sdr']:.2f} dB, 95 % interval {low:.2f} to {high:.2f} over {row['interval_over']}")
    distances = {
        "reconstruction": row["frechet"],
        "samples": summary["samples"]["frechet"],
        "halves of the recordings": summary["frechet"]["noise_floor"],
        "silence": summary["floors"]["silence"]["frechet"],
    }
    text = ", ".join(f"{name} {figure(value)}" for name, value in distances.items() if value is not None)
    print(f"Fréchet: {text or 'too few chunks'}")
    if summary["silent_chunks"]:
        silent = summary["silent"]
        print(
            f"silent:  {silent['chunks']} chunks at {silent['reference_dbfs']:.0f} dBFS, excluded from the means; "
            f"their reconstructions are at {silent['output_dbfs']:.0f} dBFS"
        )
    print_passages(summary)
    if found := summary.get("before_phase"):
        words = f"{found['summary'][:1].lower()}{found['summary'][1:]}"
        print(f"phase:   since step {found['step']:,}, where the adversarial phase began: {words}")
    if speech := summary.get("speech"):
        text = ", ".join(f"{name.upper()} {speech[name]:.3g}" for name in ("pesq", "stoi") if speech[name] is not None)
        print(f"speech:  {text or 'no value'} over {speech['recordings']} recordings")
