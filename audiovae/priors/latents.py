"""What a prior must know about the latents that it models."""

import dataclasses
import reprlib
from dataclasses import dataclass, field
from typing import Any, Literal

# The entry of a manifest's settings that describes latents.
LATENTS = "latents"
# Real latents are stored as whole numbers of this step. A posterior's deviation is a hundred times as large.
STEP = 1 / 256
LARGEST_CODE = 1 << 15  # codes are stored as int16
# Values beyond these only occur in files that are damaged or meant to fill the memory.
LARGEST = {"rows": 1 << 16, "frames": 1 << 26, "stride": 1 << 26, "rate": 1 << 20, "chunk_frames": 1 << 26}
LONGEST_FADE = 1 << 26
MOST_LABELS = 4096
LONGEST_LABEL = 100  # characters


@dataclass(frozen=True)
class LatentsConfig:
    """Latents of recordings as sequences of frames: `rows` numbers a frame, every `stride` samples of audio.

    Attributes:
        model: Fingerprint of the autoencoder that made them.
        family: Family of the autoencoder.
        kind: `real` for numbers, `codes` for indices of codebooks.
        rows: Numbers in a frame.
        size: Codes in each codebook; 0 for real latents.
        frames: Frames in a record of the data set, the context of a prior.
        stride: Samples of audio between frames.
        rate: Sample rate of the audio in Hz.
        fade: How recordings are divided: -1 for one pass over the whole; else chunks that share so many samples.
        chunk_frames: Frames of a chunk of the autoencoder; a record holds whole chunks unless `fade` is -1.
        labels: The labels of recordings, sorted. If there are any, a record ends with one more number: that of its
            label in this list from 1 on, or 0 for none.
    """

    model: str
    family: str
    kind: Literal["real", "codes"]
    rows: int
    size: int
    frames: int
    stride: int
    rate: int
    fade: int
    chunk_frames: int
    labels: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        positive = {name: getattr(self, name) for name in LARGEST}
        wrong: dict[str, Any] = {name: value for name, value in positive.items() if not 1 <= value <= LARGEST[name]}
        wrong |= {name: value for name in ("model", "family") if not isinstance(value := getattr(self, name), str)}
        if self.kind not in ("real", "codes"):
            wrong["kind"] = self.kind
        if not (1 < self.size <= LARGEST_CODE if self.kind == "codes" else self.size == 0):
            wrong["size"] = self.size
        if not -1 <= self.fade <= LONGEST_FADE:
            wrong["fade"] = self.fade
        if wrong:
            name, value = next(iter(wrong.items()))
            raise ValueError(f"latents: {name} is {reprlib.repr(value)}")
        if self.fade >= 0 and self.frames % self.chunk_frames:
            raise ValueError(f"latents: {self.frames} frames are no whole chunks of {self.chunk_frames}")
        check_labels(self.labels)

    @property
    def values(self) -> int:
        """Numbers of latents in a record."""
        return self.rows * self.frames

    @property
    def numbers(self) -> int:
        """Numbers in a record, with that of its label: the samples of a chunk of the data set."""
        return self.values + bool(self.labels)

    @property
    def frame_rate(self) -> float:
        """Frames in a second of audio."""
        return self.rate / self.stride

    def to_dict(self) -> dict[str, Any]:
        """The fields for a manifest; without labels, there is no such entry."""
        values = dataclasses.asdict(self)
        return values if self.labels else {name: value for name, value in values.items() if name != "labels"}


def check_labels(labels: Any) -> None:
    """Raises ValueError unless these are names of labels in their order, few and short enough."""
    if not isinstance(labels, list):
        raise ValueError("latents: labels is not a list")
    if len(labels) > MOST_LABELS:
        raise ValueError(f"latents: {len(labels):,} labels: at most {MOST_LABELS:,}")
    for label in labels:
        if not isinstance(label, str) or not label.isprintable() or not 0 < len(label) <= LONGEST_LABEL:
            raise ValueError(
                f"latents: the label {reprlib.repr(label)}: use printable text of 1 to {LONGEST_LABEL} characters"
            )
    if labels != sorted(set(labels)):
        raise ValueError("latents: the labels are not sorted, or one is there twice")
