"""The page of a run: what it shows, and how that is kept small."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from shards.files import write_atomically
from train.evaluation.drawing import spectrograms
from train.evaluation.drawing.codes import codebooks, use_by_rank
from train.evaluation.drawing.curves import curves_of_run
from train.evaluation.drawing.spectrograms import FINE, SMALL, WIDE, WIDE_SMALL, Picture, PictureFormat
from train.evaluation.report.facts import Facts
from train.evaluation.report.generated import Clip, Interpolation
from train.evaluation.report.measures import columns, over_what
from train.evaluation.report.rendering import figure, render
from train.evaluation.report.sounds import FLAC, VORBIS, SoundFormat, sound_url
from train.evaluation.report.tables import extent, intervals_of, key_figures, latent_table, recordings_table, table_rows
from train.evaluation.report.verdict import verdict

# From so many examples on, sounds and pictures are kept in their small forms.
MANY = 30
# Examples of a kind that are open at once, and players that are made ready with the page; others wait.
OPEN = 12
# Longer sounds have pictures as wide as the page, in seconds.
WIDE_S = 4.0
# What kinds of examples are, in the page's order.
KINDS = {
    "best": "Best examples",
    "median": "Median examples",
    "worst": "Worst examples",
    "recording": "Longer passages",
}


@dataclass
class Example:
    """Reference and reconstruction, [T] float32 each, with their measures.

    Attributes:
        file: The name of its sounds' files.
        kind: best, median, worst or recording.
        place: Among its kind, from 1.
        path: The recording it is from.
        start_s: Where in the recording it begins.
    """

    file: str
    kind: str
    place: int
    path: str
    start_s: float
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
        rate: Hz of all sounds.
        facts: Of the run.
        between: Sounds between two recordings, if there are two.
        drawn: Draws from the prior by temperature.
        usage: By codebook the share [K] of each code.
    """

    summary: dict[str, Any]
    examples: list[Example]
    points: list[dict[str, Any]]
    rate: int
    facts: Facts | None = None
    between: Interpolation | None = None
    drawn: dict[float, list[Clip]] = field(default_factory=dict)
    usage: dict[str, np.ndarray] = field(default_factory=dict)


@dataclass(frozen=True)
class Player:
    """A sound of the page; `ready` players know their length from the start."""

    name: str
    label: str
    url: str
    seconds: float
    ready: bool


@dataclass(frozen=True)
class Shown:
    """One or more sounds that belong together, with their pictures; `anchor` names the place in the page."""

    title: str
    anchor: str
    path: str
    note: str
    figures: str
    players: list[Player]
    pictures: list[tuple[str, Picture]]
    wide: bool
    seconds: float
    top_khz: float


@dataclass(frozen=True)
class Forms:
    """In which forms sounds and pictures are kept in a page."""

    sound: SoundFormat
    picture: PictureFormat
    wide: PictureFormat

    @classmethod
    def for_many(cls, count: int) -> "Forms":
        """Exact ones for few examples, small ones for many."""
        return cls(VORBIS, SMALL, WIDE_SMALL) if count > MANY else cls(FLAC, FINE, WIDE)


def write_page(path: Path, page: Page, inside: Path | None = None) -> None:
    """Writes the page, whole or not at all; see `shards.files` for `inside`."""
    write_atomically(path, render("run.html", **content(page)), inside)


def content(page: Page) -> dict[str, Any]:
    """What the template takes."""
    summary = page.summary
    forms = Forms.for_many(len(page.examples))
    rows = table_rows(summary)
    kinds = []
    for kind, title in KINDS.items():
        mine = [example for example in page.examples if example.kind == kind]
        if mine:
            shown = [show(example, page.rate, forms, i < OPEN) for i, example in enumerate(mine)]
            kinds.append({"title": title, "first": shown[:OPEN], "more": shown[OPEN:]})
    return {
        "summary": summary,
        "kind": summary.get("kind", "held-out"),
        "state": page.facts.state if page.facts else "",
        "extent": extent(summary),
        "keys": key_figures(summary),
        "verdict": verdict(summary),
        "columns": columns([row for _, row in rows]),
        "rows": rows,
        "intervals": {name: intervals_of(summary, row) for name, row in rows},
        "over": over_what(summary),
        "recordings": recordings_table(summary),
        "latents": latent_table(summary["latents"], codebooks(page.usage)),
        "kinds": kinds,
        "sound": forms.sound,
        "sections": curves_of_run(page.points, summary["reconstruction"]),
        "codes": use_by_rank(page.usage),
        "facts": page.facts,
        "between": between(page.between, page.rate, forms) if page.between else None,
        "drawn": {t: [one_clip(clip, page.rate, forms) for clip in clips] for t, clips in page.drawn.items()},
    }


def show(example: Example, rate: int, forms: Forms, ready: bool) -> Shown:
    """An example as the page has it."""
    whole = example.kind == "recording"
    wide = len(example.reference) > WIDE_S * rate
    name = f"passage {example.place}" if whole else f"{example.kind} example {example.place}"
    pair = {"reference": example.reference, "reconstruction": example.reconstruction}
    values = example.measures
    figures = f"SI-SDR {figure(values['si_sdr'])} dB, STFT distance {figure(values['stft'])}"
    figures += f", mel distance {figure(values['mel'])}"
    levels = spectrograms.band_text(example.reference, example.reconstruction, rate)
    seconds = len(example.reference) / rate
    return Shown(
        title=f"{name[0].upper()}{name[1:]}",
        anchor=f"{example.kind}-{example.place}",
        path=example.path,
        note=f"{seconds:.2f} s from {example.start_s:.2f} s on; level of the reconstruction: {levels}",
        figures=figures,
        players=[
            player(word, f"{word.capitalize()}, {name}, file {example.path}", audio, rate, forms, ready)
            for word, audio in pair.items()
        ],
        pictures=compared(pair, rate, f"{name}, file {example.path}", forms.wide if wide else forms.picture),
        wide=wide,
        seconds=seconds,
        top_khz=rate / 2000,
    )


def compared(
    sounds: dict[str, np.ndarray], rate: int, name: str, kept: PictureFormat, with_difference: bool = True
) -> list[tuple[str, Picture]]:
    """Pictures of sounds, the first of them the reference; of two, their difference too if wanted."""
    pictures = [(word, spectrograms.spectrogram(audio, f"the {word}, {name}", kept)) for word, audio in sounds.items()]
    if with_difference and len(sounds) == 2:
        reference, other = sounds.values()
        pictures.append(("difference", spectrograms.difference(reference, other, rate, name, kept)))
    return pictures


def player(name: str, label: str, audio: np.ndarray, rate: int, forms: Forms, ready: bool = True) -> Player:
    """A sound as the page has it."""
    return Player(name, label, sound_url(audio, rate, forms.sound), len(audio) / rate, ready)


def one_clip(clip: Clip, rate: int, forms: Forms) -> Shown:
    """A clip that stands for itself."""
    return Shown(
        title=clip.name,
        anchor=clip.file,
        path="",
        note="",
        figures="",
        players=[player(clip.name, clip.label, clip.audio, rate, forms)],
        pictures=[(clip.name, spectrograms.spectrogram(clip.audio, clip.label, forms.picture))],
        wide=False,
        seconds=len(clip.audio) / rate,
        top_khz=rate / 2000,
    )


def between(found: Interpolation, rate: int, forms: Forms) -> dict[str, Any]:
    """Sounds between two recordings as the page has them."""
    return {
        "first": found.first,
        "second": found.second,
        "clips": [one_clip(clip, rate, forms) for clip in found.clips],
    }


def sounds_of(examples: Sequence[Example], clips: Sequence[Clip]) -> dict[str, np.ndarray]:
    """All sounds of a page by the names of their files."""
    sounds = {}
    for example in examples:
        sounds[f"{example.file}-reference"] = example.reference
        sounds[f"{example.file}-reconstruction"] = example.reconstruction
    return sounds | {clip.file: clip.audio for clip in clips}
