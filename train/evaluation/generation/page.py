"""The report page of a prior: recordings to hear, and their measures."""

import shlex
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from audiovae import Prior
from shards import Split
from shards.chunk import parse_name
from shards.files import write_atomically
from train.evaluation.drawing.curves import curves_of_run
from train.evaluation.generation.measures.copying import Nearest
from train.evaluation.generation.references import passage_audio
from train.evaluation.generation.summary import GENERATED, Sets
from train.evaluation.generation.table import ROWS, cells, headings, key_figures
from train.evaluation.generation.verdict import findings
from train.evaluation.measuring.heldout import read_audio
from train.evaluation.report.facts import Facts, facts_of
from train.evaluation.report.page import WIDE_S, ExampleView, Forms, by_kind, compared, player
from train.evaluation.report.rendering import figure, render
from train.evaluation.report.sounds import to_host, write_wavs
from train.runs.latest_model import checkpoint_flag
from train.runs.lines import read_points
from train.runs.run_folder import METRICS_FILE, RunDir

# Headings of what can be heard, by kind, in page order.
KINDS = {
    "generated": "From the prior",
    "prior": "From the autoencoder's own prior",
    "reconstructed": "Reconstructions of held-out recordings",
    "nearest": "Nearest to the training data",
}
# How many of each kind, apart from generated recordings, can be heard.
OTHERS = 3


@dataclass(frozen=True)
class Heard:
    """Sounds of the page that belong together.

    Attributes:
        kind: generated, prior, reconstructed or nearest; also the beginning of the names of its files.
        place: Number within its kind, from 1.
        title: What it is.
        sounds: Audio, [T] or [2, T] float32, by the words of the page.
        path: Path of a recording, or "".
        text: What is to be said about it.
    """

    kind: str
    place: int
    title: str
    sounds: dict[str, np.ndarray]
    path: str = ""
    text: str = ""

    @property
    def files(self) -> dict[str, np.ndarray]:
        """The sounds by file name without ending."""
        if len(self.sounds) == 1:
            return {f"{self.kind}-{self.place}": audio for audio in self.sounds.values()}
        return {f"{self.kind}-{self.place}-{word.replace(' ', '-')}": audio for word, audio in self.sounds.items()}


def sounds_to_hear(
    sets: Sets,
    near: dict[str, Nearest],
    split: Split,
    training: Split | None,
    labels: list[str | None] | None = None,
) -> list[Heard]:
    """All sounds of the page: every generated recording, and some of what they are compared with.

    `labels` are those of the generated recordings, if the prior has labels.
    """
    texts = [f"label: {label}" if label else "" for label in labels or [None] * len(sets.generated.audio)]
    heard = [
        Heard("generated", i, f"Recording {i}", {"generated": audio}, text=text)
        for i, (audio, text) in enumerate(zip(sets.generated.audio, texts, strict=True), 1)
    ]
    for i, audio in enumerate(sets.without.audio[:OTHERS], 1):
        heard.append(Heard("prior", i, f"Draw {i}", {"drawn": audio}))
    pairs = zip(sets.originals, sets.reconstructed.audio[:OTHERS], strict=False)
    for i, (passage, output) in enumerate(pairs, 1):
        audio = passage_audio(split, passage, sets.shape).numpy()
        sounds = {"reference": audio, "reconstruction": output[..., : audio.shape[-1]]}
        text = f"starting at {passage.first / split.rate:.2f} s"
        heard.append(
            Heard("reconstructed", i, f"Passage {i}", sounds, split.manifest.sources[passage.source].path, text)
        )
    return heard + (nearest_to_hear(sets, near[GENERATED], training) if near and training else [])


def nearest_to_hear(sets: Sets, found: Nearest, training: Split) -> list[Heard]:
    """The generated windows that are nearest to a training chunk, of different pieces, each with that chunk."""
    windows, shape, known = sets.generated.windows, sets.shape, sets.training
    heard: list[Heard] = []
    pieces: set[int] = set()
    for row in np.argsort(found.distances, kind="stable"):
        piece, first = int(windows.pieces[row]), int(windows.places[row]) * shape.samples
        if known is None or piece in pieces or len(heard) == OTHERS:
            continue
        pieces.add(piece)
        chunk = known.chunks[[found.windows[row]]]
        source, start = parse_name(training.names(chunk)[0])
        sounds = {
            "generated": sets.generated.audio[piece][..., first : first + shape.samples],
            "nearest in training": to_host(read_audio(training, chunk, torch.device("cpu"))[0]),
        }
        text = f"recording {piece + 1} from {first / shape.rate:.2f} s on; the training chunk starts at "
        text += f"{start / shape.rate:.2f} s; distance {figure(float(found.distances[row]))}"
        place = len(heard) + 1
        heard.append(Heard("nearest", place, f"Pair {place}", sounds, training.manifest.sources[source].path, text))
    return heard


def write_page(
    folder: Path, run: RunDir, prior: Prior, split: Split, summary: dict[str, Any], heard: list[Heard], inside: Path
) -> None:
    """Writes index.html and audio/.

    Args:
        folder: The report folder.
        run: The run.
        prior: Its model.
        split: The held-out recordings.
        summary: The content of metrics.json.
        heard: The sounds of the page.
        inside: The outermost folder, see `shards.files`.
    """
    sounds = {name: audio for one in heard for name, audio in one.files.items()}
    write_wavs(folder / "audio", sounds, split.rate, inside)
    forms = Forms.for_many(len(heard))
    content = {
        "summary": summary,
        "facts": prior_facts(run, prior, split, summary),
        "keys": key_figures(summary),
        "verdict": findings(summary),
        "headings": headings(summary),
        "rows": [(ROWS[name], cells(summary, name)) for name in summary["rows"]],
        "kinds": by_kind(KINDS, heard, lambda one, ready: view(one, split.rate, forms, ready)),
        "sound": forms.sound,
        "sections": curves_of_run(read_points(run.path / METRICS_FILE)),
    }
    write_atomically(folder / "index.html", render("generation.html", **content), inside)


def view(one: Heard, rate: int, forms: Forms, ready: bool) -> ExampleView:
    """The players and spectrograms of what belongs together."""
    longest = max(audio.shape[-1] for audio in one.sounds.values())
    wide = longest > WIDE_S * rate or len(one.sounds) == 1
    name = f"{one.title[:1].lower()}{one.title[1:]}" + (f", file {one.path}" if one.path else "")
    players = [
        player(word, f"{word.capitalize()}, {name}", audio, rate, forms, ready) for word, audio in one.sounds.items()
    ]
    return ExampleView(
        title=one.title,
        anchor=f"{one.kind}-{one.place}",
        path=one.path,
        note="",
        figures=one.text or f"{longest / rate:.3g} s",
        players=players,
        pictures=compared(one.sounds, rate, name, forms.wide if wide else forms.picture, with_difference=False),
        wide=wide,
        seconds=longest / rate,
        top_khz=rate / 2000,
    )


def prior_facts(run: RunDir, prior: Prior, split: Split, summary: dict[str, Any]) -> Facts:
    """Facts of the run, with what it was trained on and how it was measured."""
    facts = facts_of(run, summary, prior, 0, split.manifest)
    about = prior.latents
    latents = f"{about.rows} {'codes' if about.kind == 'codes' else 'numbers'} a frame, {about.frame_rate:.4g} frames/s"
    changed = {
        "data": ("recordings to measure against", str(summary["data"])),
        "trained on": ("trained on", f"{run.config['data.path']}, latents of a {about.family}: {latents}"),
    }
    rows = [changed.get(name, (name, value)) for name, value in facts.rows]
    words = ["python", "-m", "train", "evaluate", str(run.path), "--data", str(summary["data"])]
    words += checkpoint_flag(summary["model"])
    words += ["--split", summary["split"], "--pieces", str(summary["pieces"]), "--seconds", f"{summary['seconds']:g}"]
    words += ["--temperature", f"{summary['temperature']:g}"]
    return replace(facts, rows=rows, evaluate=shlex.join(words))
