"""The page that a run ends with: one self-contained HTML file, no network."""

import base64
import io
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import soundfile
from matplotlib.figure import Figure

from train.pictures import comparison


@dataclass
class Example:
    """Reference and reconstruction, [T] float32 each, with their measures."""

    file: str
    title: str
    reference: np.ndarray
    reconstruction: np.ndarray
    measures: dict[str, float]


@dataclass
class Page:
    """What the page shows.

    Attributes:
        summary: As in metrics.json.
        examples: To hear and to see.
        points: Lines of metrics.jsonl.
        rate: Hz of the examples.
    """

    summary: dict[str, Any]
    examples: list[Example]
    points: list[dict[str, Any]]
    rate: int


def data_url(kind: str, content: bytes) -> str:
    """Content as a URL that needs no file."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def sound_url(audio: np.ndarray, rate: int) -> str:
    """[T] audio as a FLAC in a URL."""
    file = io.BytesIO()
    soundfile.write(file, audio.clip(-1, 1), rate, format="FLAC", subtype="PCM_16")
    return data_url("audio/flac", file.getvalue())


def curves(points: list[dict[str, Any]], names: list[str]) -> str:
    """PNG of some values over steps, one panel each, as a URL; empty when there are no such values."""
    series = {name: [(p["step"], p[name]) for p in points if name in p] for name in names}
    series = {name: rows for name, rows in series.items() if rows}
    if not series:
        return ""
    rows = -(-len(series) // 3)
    figure = Figure(figsize=(10, 2.4 * rows), dpi=100, layout="constrained")
    for axis, (name, values) in zip(figure.subplots(rows, 3, squeeze=False).flat, series.items(), strict=False):
        axis.plot(*zip(*values, strict=True), linewidth=1.2, marker="." if len(values) < 3 else "")
        axis.set(title=name, xlabel="step")
        axis.grid(alpha=0.3)
    for axis in list(figure.axes)[len(series) :]:
        axis.set_visible(False)
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return data_url("image/png", file.getvalue())


def write_page(path: Path, page: Page) -> None:
    """Writes the page."""
    loader = jinja2.FunctionLoader(lambda name: (resources.files("train") / "templates" / name).read_text())
    environment = jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined)
    known = sorted({name for point in page.points for name in point})
    wanted = ("valid/si_sdr", "valid/stft", "valid/mel", "loss/", "model/", "optim/learning_rate")
    shown = [name for name in known if name.startswith(wanted)]
    examples = [
        {
            "title": example.title,
            "measures": example.measures,
            "seconds": len(example.reference) / page.rate,
            "reference": sound_url(example.reference, page.rate),
            "reconstruction": sound_url(example.reconstruction, page.rate),
            "picture": data_url("image/png", comparison(example.reference, example.reconstruction, page.rate)),
        }
        for example in page.examples
    ]
    text = environment.get_template("report.html").render(
        summary=page.summary, examples=examples, curves=curves(page.points, shown)
    )
    path.write_text(text)
