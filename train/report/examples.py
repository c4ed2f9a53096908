"""Which chunks and recordings a page lets people hear, and what the model makes of them."""

import numpy as np
import torch
from torch import Tensor

from audiovae import Autoencoder, reconstruct_recording
from shards import Split
from train.heldout import to_audio
from train.measuring.chunks import MEASURES, Measured
from train.measuring.recordings import joined
from train.metrics import measure
from train.report.page import Example

# Of each recording, and so many recordings.
SECONDS = 20.0
RECORDINGS = 3


def pick_examples(model: Autoencoder, split: Split, chunks: Measured, count: int) -> list[Example]:
    """Best, median and worst chunks by SI-SDR, with what the model makes of them."""
    scores = chunks.columns["si_sdr"]
    ranked = np.flatnonzero(~np.isnan(scores))
    ranked = ranked[np.argsort(-scores[ranked], kind="stable")]
    count = min(count, max(1, len(ranked) // 3))
    middle = max(0, (len(ranked) - count) // 2)
    kinds = {"best": ranked[:count], "median": ranked[middle : middle + count], "worst": ranked[len(ranked) - count :]}
    examples = []
    for kind, chosen in kinds.items():
        for place, chunk in enumerate(chosen, start=1):
            audio = to_audio(split.read(chunks.indices[[chunk]]), next(model.parameters()).device)
            path, start = split.manifest.sources[chunks.sources[chunk]].path, chunks.starts[chunk] / split.rate
            pair = mono(audio), mono(model.reconstruct(audio))
            measures = {name: float(chunks.columns[name][chunk]) for name in MEASURES}
            examples.append(Example(f"{kind}-{place}", kind, place, path, float(start), *pair, measures))
    return examples


def first_heard(chunks: Measured) -> dict[int, int]:
    """By recording the first sample of its first chunk that is not silent; recordings without one are left out."""
    loud = chunks.where(~chunks.silent)
    return {int(source): int(loud.starts[loud.sources == source].min()) for source in np.unique(loud.sources)}


def whole_recordings(model: Autoencoder, split: Split, heard: dict[int, int]) -> list[Example]:
    """Some seconds of a few recordings, joined from their chunks and reconstructed in one piece.

    Args:
        model: In evaluation mode.
        split: Holds them.
        heard: As from `first_heard`: where they begin.
    """
    examples = []
    for place, (source, first) in enumerate(list(heard.items())[:RECORDINGS], start=1):
        recording = joined(split, source, first, SECONDS)
        output = reconstruct_recording(model, torch.from_numpy(recording)).cpu()
        reference = torch.from_numpy(recording).view(1, 1, -1)
        values = {k: v.item() for k, v in measure(output.view(1, 1, -1), reference, split.rate).items()}
        path, start = split.manifest.sources[source].path, first / split.rate
        pair = recording, output.numpy()
        examples.append(Example(f"recording-{source}", "recording", place, path, start, *pair, values))
    return examples


def mono(audio: Tensor) -> np.ndarray:
    """[1, 1, T] -> [T] float32 on the host."""
    return audio.squeeze().float().cpu().numpy()
