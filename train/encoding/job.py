"""What an encoding encodes, and by which model."""

from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import xxhash

from audiovae import Autoencoder
from audiovae.priors.latents import LATENTS, LatentsConfig
from audiovae.recordings.sequences import Frames, check_ready, layout_of
from shards import Manifest, Split
from shards.audio.rates import HIGHEST
from shards.files import canonical_json
from shards.manifest.data_set import MAX_SAMPLES
from shards.reading.channels import LAYOUTS
from shards.reading.parts import load_joined
from train.encoding.labels import Labels, labels_of
from train.encoding.recordings import Recording, recordings_of
from train.errors import TrainError
from train.runs.latest_model import load_weights

# In the new manifest: a hash of who has which label, and how many training recordings have none, and each one.
LABELS = "labels"
LONGEST_S = 86_400.0  # seconds of a window
FOLDER = ".encode"  # in the new data folder, until it is finished


@dataclass
class Job:
    """All that decides the bytes of a data set of latents.

    Attributes:
        model: The autoencoder.
        frames: How it divides recordings.
        layout: What is recorded of the latents.
        manifest: Of the data that is encoded.
        recordings: Of all splits, by their rows.
        out: The new data folder.
        labels: Of the recordings; None for a data set without labels.
    """

    model: Autoencoder
    frames: Frames
    layout: LatentsConfig
    manifest: Manifest
    recordings: list[Recording]
    out: Path
    labels: Labels | None = None

    @property
    def folder(self) -> Path:
        """Where the files of an unfinished encoding are."""
        return self.out / FOLDER

    @property
    def rate(self) -> int:
        """Numbers a second, rounded: the sample rate of the new data set."""
        return min(HIGHEST, max(1, round(self.layout.rows * self.layout.rate / self.layout.stride)))

    @property
    def hop(self) -> int:
        """Numbers from one window to the next."""
        return self.layout.rows * self.frames.hop(self.layout.frames)

    @property
    def identity(self) -> dict[str, str]:
        """The model, the data and their labels if there are any, by their fingerprints."""
        data = self.manifest.fingerprint
        if gains := {one.name: one.gain_db for one in self.recordings[0].split.sets if one.gain_db}:
            data = xxhash.xxh3_128_hexdigest(canonical_json([data, gains]))
        found = {"model": self.layout.model, "data": data}
        return found | ({"labels": self.labels.fingerprint} if self.labels else {})

    @property
    def settings(self) -> dict[str, Any]:
        """The settings in the manifest of the new data set."""
        settings = {LATENTS: self.layout.to_dict(), "encoded": self.manifest.fingerprint}
        if not self.labels:
            return settings
        rows = [recording.row for recording in self.recordings if recording.split.name == "train"]
        return settings | {LABELS: {"fingerprint": self.labels.fingerprint, "recordings": self.labels.counts(rows)}}

    def samples(self, recording: Recording) -> int:
        """Samples of a recording that are encoded: a window at least."""
        return max(recording.samples, self.frames.samples(self.layout.frames))

    def key(self, recording: Recording) -> str:
        """A hash of all that decides the sequence of a recording, 32 hexadecimal digits."""
        name, sets = recording.split.name, recording.split.set_of(recording.chunks[:1])
        content = [self._layout, self._fingerprints[name], name, recording.row, self.samples(recording)]
        if gain := recording.split.sets[sets[0]].gain_db:
            content.append(gain)
        return xxhash.xxh3_128_hexdigest(canonical_json(content))

    def file(self, recording: Recording) -> Path:
        """The file of its sequence."""
        return self.folder / f"{recording.row:08d}.latents"

    @cached_property
    def _layout(self) -> dict[str, Any]:
        """The layout without the length of a window and the labels, on which sequences do not depend."""
        return {name: value for name, value in asdict(self.layout).items() if name not in ("frames", "labels")}

    @cached_property
    def _fingerprints(self) -> dict[str, str]:
        return {name: self.manifest.split_fingerprint(name) for name in self.manifest.splits}


def open_job(settings: Any, source: Path, device: str, share: tuple[int, int]) -> Job:
    """Opens the model and the data.

    Args:
        settings: Of the command.
        source: The folder of the weights.
        device: Where to encode.
        share: This process's number and the number of processes that check the shards together.

    Raises:
        TrainError, DataError, ModelError: when one of them cannot be used, or they do not fit each other.
    """
    if settings.seconds > LONGEST_S:
        raise TrainError(f"--seconds {settings.seconds:g}: choose windows of at most a day ({LONGEST_S:g})")
    model = load_weights(source, device)
    manifest, manifests, where = load_joined(settings.data)
    if any(LATENTS in one.settings for one in manifests):
        raise TrainError(f"{where}: holds latents already; pass a data folder of audio")
    if manifest.rate != model.rate:
        raise TrainError(
            f"{where}: recordings at {manifest.rate} Hz, but the model was trained at {model.rate} Hz; "
            f"build the data with --rate {model.rate}"
        )
    if manifest.channels != model.audio_channels:
        raise TrainError(
            f"{where}: recordings in {LAYOUTS[manifest.channels]}, but the model was trained in "
            f"{LAYOUTS[model.audio_channels]}; build the data with --channels {model.audio_channels}"
        )
    if manifest.level != model.level:
        raise TrainError(
            f"{where}: recordings at the level '{manifest.level}', but the model was trained at '{model.level}'; "
            f"build the data with --level {model.level}"
        )
    check_ready(model)
    frames = Frames(model)
    recordings = _recordings(settings.data, manifests, share)
    labels = None
    if settings.labels:
        labels = labels_of(manifest, (recording.row for recording in recordings), settings.labels)
    layout = _layout_of(model, frames.nearest(settings.seconds), labels, settings.labels)
    if layout.numbers > MAX_SAMPLES:
        raise TrainError(
            f"--seconds {settings.seconds:g}: a window has {layout.numbers:,} numbers, more than {MAX_SAMPLES:,}; "
            "choose shorter windows"
        )
    return Job(model, frames, layout, manifest, recordings, Path(settings.out), labels)


def _layout_of(model: Autoencoder, frames: int, labels: Labels | None, how: str | None) -> LatentsConfig:
    """What is recorded of the latents, with the names of the labels; `how` is what names them, for messages."""
    layout = layout_of(model, frames)
    if labels is None:
        return layout
    try:
        return replace(layout, labels=labels.names)
    except ValueError as error:
        raise TrainError(f"--labels {how}: {str(error).removeprefix('latents: ')}") from None


def _recordings(data: str, manifests: list[Manifest], share: tuple[int, int]) -> list[Recording]:
    """The recordings of all splits, by their rows."""
    recordings: list[Recording] = []
    names = sorted({name for manifest in manifests for name, shards in manifest.splits.items() if shards})
    for name in names:
        split = Split.open(data, name, manifests=manifests, share=share)
        recordings += recordings_of(split)
    return sorted(recordings, key=lambda recording: recording.row)
