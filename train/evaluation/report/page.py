"""The report page of a run: its content, and the sizes of its audio and pictures."""

from collections.abc import Callable, Mapping, Sequence
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
from train.evaluation.report.measures import columns, interval_note
from train.evaluation.report.rendering import figure, render
from train.evaluation.report.sounds import FLAC, VORBIS, SoundFormat, sound_url
from train.evaluation.report.tables import (
    extent,
    intervals_of,
    key_figures,
    latent_table,
    passages_table,
    phase_table,
    recordings_table,
    table_rows,
)
from train.evaluation.report.verdict import verdict

# With more examples than this, audio and pictures use lossy compression.
MANY = 30
# Examples per kind that are visible and load with the page; the others are folded and load later.
OPEN = 12
# Audio longer than this has pictures as wide as the page, in seconds.
WIDE_S = 4.0
# Headings of the kinds of examples, in page order.
KINDS = {
    "best": "Best examples",
    "median": "Median examples",
    "worst": "Worst examples",
    "recording": "Longer passages",
}
# The same for the section on the adversarial phase.
PHASE = {"phase": "Examples before and after"}


@dataclass
class Example:
    """Reference and reconstruction, [T] or [2, T] float32 each, with their measures.

    Attributes:
        file: Prefix of the names of its audio files.
        kind: best, median, worst, recording or phase.
        place: Number within its kind, from 1.
        path: Path of its recording.
        start_s: Start in the recording, in seconds.
        before: The reconstruction from before the adversarial phase, [T] or [2, T] float32, for those of kind `phase`.
        title, figures: The name of an example of this kind, and its measures in words.
    """

    file: str
    kind: str
    place: int
    path: str
    start_s: float
    reference: np.ndarray
    reconstruction: np.ndarray
    measures: dict[str, float]
    before: np.ndarray | None = None
    title: str = ""
    figures: str = ""

    @property
    def sounds(self) -> dict[str, np.ndarray]:
        """Its audio by the words of the page, the reference first."""
        if self.before is None:
            return {"reference": self.reference, "reconstruction": self.reconstruction}
        return {"reference": self.reference, "before": self.before, "after": self.reconstruction}


@dataclass
class Page:
    """The content of a report page.

    Attributes:
        summary: The content of metrics.json.
        examples: Examples with audio and spectrograms.
        points: Lines of metrics.jsonl.
        rate: Sample rate of all audio, in Hz.
        facts: Facts of the run.
        between: Interpolation between two recordings, if there are two.
        drawn: Samples from the prior by temperature.
        usage: By codebook, the share [K] of each code.
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
    """An audio player; `ready` players load their metadata together with the page."""

    name: str
    label: str
    url: str
    seconds: float
    ready: bool


@dataclass(frozen=True)
class ExampleView:
    """Related audio players with their spectrograms; `anchor` is the id of the element in the page."""

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
    """The formats of audio and pictures in a page."""

    sound: SoundFormat
    picture: PictureFormat
    wide: PictureFormat

    @classmethod
    def for_many(cls, count: int) -> "Forms":
        """Lossless formats for up to MANY examples, lossy ones for more."""
        return cls(VORBIS, SMALL, WIDE_SMALL) if count > MANY else cls(FLAC, FINE, WIDE)


def write_page(path: Path, page: Page, inside: Path | None = None) -> None:
    """Writes the page atomically; see `shards.files` for `inside`."""
    write_atomically(path, render("run.html", **template_variables(page)), inside)


def by_kind(
    kinds: Mapping[str, str], examples: Sequence[Any], view: Callable[[Any, bool], ExampleView]
) -> list[dict[str, Any]]:
    """Groups examples by their `kind`, in the order of `kinds` (titles by kind); empty groups are left out.

    The first OPEN of a group are drawn at once: `view` gets an example and whether it is one of them.
    """
    groups = []
    for kind, title in kinds.items():
        shown = [view(one, i < OPEN) for i, one in enumerate(one for one in examples if one.kind == kind)]
        if shown:
            groups.append({"title": title, "first": shown[:OPEN], "more": shown[OPEN:]})
    return groups


def template_variables(page: Page) -> dict[str, Any]:
    """The variables of the template."""
    summary = page.summary
    forms = Forms.for_many(len(page.examples))
    rows = table_rows(summary)

    def kinds(titles: dict[str, str]) -> list[dict[str, Any]]:
        return by_kind(titles, page.examples, lambda example, ready: example_view(example, page.rate, forms, ready))

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
        "over": interval_note(summary),
        "recordings": recordings_table(summary),
        "passages": passages_table(summary),
        "latents": latent_table(summary["latents"], codebooks(page.usage)),
        "phase": phase_table(summary),
        "heard": kinds(PHASE),
        "kinds": kinds(KINDS),
        "sound": forms.sound,
        "sections": curves_of_run(page.points, summary["reconstruction"]),
        "codes": use_by_rank(page.usage),
        "facts": page.facts,
        "between": interpolation_view(page.between, page.rate, forms) if page.between else None,
        "drawn": {t: [clip_view(clip, page.rate, forms) for clip in clips] for t, clips in page.drawn.items()},
    }


def example_view(example: Example, rate: int, forms: Forms, ready: bool) -> ExampleView:
    """The players, spectrograms and captions of one example."""
    whole = example.kind == "recording"
    wide = example.reference.shape[-1] > WIDE_S * rate
    name = f"passage {example.place}" if whole else f"{example.kind} example {example.place}"
    name = f"{example.title[:1].lower()}{example.title[1:]}" or name
    sounds = example.sounds
    seconds = example.reference.shape[-1] / rate
    return ExampleView(
        title=f"{name[0].upper()}{name[1:]}",
        anchor=f"{example.kind}-{example.place}",
        path=example.path,
        note=f"{seconds:.2f} s, starting at {example.start_s:.2f} s; level relative to the reference: "
        + levels_text(sounds, rate),
        figures=example.figures or figures_text(example.measures),
        players=[
            player(word, f"{word.capitalize()}, {name}, file {example.path}", audio, rate, forms, ready)
            for word, audio in sounds.items()
        ],
        pictures=compared(sounds, rate, f"{name}, file {example.path}", forms.wide if wide else forms.picture),
        wide=wide,
        seconds=seconds,
        top_khz=rate / 2000,
    )


def figures_text(values: dict[str, float]) -> str:
    """The main measures of an example in words."""
    stft, mel = figure(values["stft"]), figure(values["mel"])
    return f"SI-SDR {figure(values['si_sdr'])} dB, STFT distance {stft}, mel distance {mel}"


def levels_text(sounds: dict[str, np.ndarray], rate: int) -> str:
    """The levels of one or more sounds relative to the first in words, with their names where there are several."""
    (_, reference), *others = sounds.items()
    texts = {word: spectrograms.band_text(reference, audio, rate) for word, audio in others}
    return "; ".join(f"{word}: {text}" if len(texts) > 1 else text for word, text in texts.items())


def compared(
    sounds: dict[str, np.ndarray], rate: int, name: str, kept: PictureFormat, with_difference: bool = True
) -> list[tuple[str, Picture]]:
    """Spectrograms of sounds by name, the reference first; for two sounds optionally their difference too."""
    pictures = [(word, spectrograms.spectrogram(audio, f"the {word}, {name}", kept)) for word, audio in sounds.items()]
    if with_difference and len(sounds) == 2:
        reference, other = sounds.values()
        pictures.append(("difference", spectrograms.difference(reference, other, rate, name, kept)))
    return pictures


def player(name: str, label: str, audio: np.ndarray, rate: int, forms: Forms, ready: bool = True) -> Player:
    """A player for audio in the page's audio format."""
    return Player(name, label, sound_url(audio, rate, forms.sound), audio.shape[-1] / rate, ready)


def clip_view(clip: Clip, rate: int, forms: Forms) -> ExampleView:
    """The player and spectrogram of a single clip."""
    return ExampleView(
        title=clip.name,
        anchor=clip.file,
        path="",
        note="",
        figures="",
        players=[player(clip.name, clip.label, clip.audio, rate, forms)],
        pictures=[(clip.name, spectrograms.spectrogram(clip.audio, clip.label, forms.picture))],
        wide=False,
        seconds=clip.audio.shape[-1] / rate,
        top_khz=rate / 2000,
    )


def interpolation_view(found: Interpolation, rate: int, forms: Forms) -> dict[str, Any]:
    """The two paths and the clips of an interpolation, as the template takes them."""
    return {
        "first": found.first,
        "second": found.second,
        "clips": [clip_view(clip, rate, forms) for clip in found.clips],
    }


def sounds_of(examples: Sequence[Example], clips: Sequence[Clip]) -> dict[str, np.ndarray]:
    """All audio of a page by file name, without the extension."""
    sounds: dict[str, np.ndarray] = {}
    for example in examples:
        sounds |= {f"{example.file}-{word}": audio for word, audio in example.sounds.items()}
    return sounds | {clip.file: clip.audio for clip in clips}
