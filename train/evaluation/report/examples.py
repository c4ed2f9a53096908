"""Selects the example chunks and passages of a page, and reconstructs them."""

import numpy as np
import torch

from audiovae import Autoencoder, reconstruct_recording
from shards import Split
from train.evaluation.measuring.chunks import MEASURES, Measured
from train.evaluation.measuring.heldout import read_audio
from train.evaluation.measuring.metrics import measure
from train.evaluation.measuring.picking import Picker, extremes
from train.evaluation.measuring.recordings import join_chunks
from train.evaluation.report.page import Example
from train.evaluation.report.sounds import to_host

# Longest passage of a recording, and number of recordings with a passage.
SECONDS = 20.0
RECORDINGS = 3


def pick_examples(model: Autoencoder, split: Split, chunks: Measured, count: int) -> list[Example]:
    """The best, median and worst chunks by SI-SDR with reconstructions; the very best and very worst come first."""
    scores = chunks.columns["si_sdr"]
    ranked = np.flatnonzero(~np.isnan(scores))
    ranked = ranked[np.argsort(-scores[ranked], kind="stable")].tolist()
    found = extremes(ranked, count, Picker(chunks.sources, chunks.starts, split.samples))
    examples = []
    for kind, chosen in zip(("best", "median", "worst"), found, strict=True):
        for place, chunk in enumerate(chosen, start=1):
            audio = read_audio(split, chunks.indices[[chunk]], model.device)
            path, start = split.manifest.sources[chunks.sources[chunk]].path, chunks.starts[chunk] / split.rate
            pair = to_host(audio[0]), to_host(model.reconstruct(audio)[0])
            measures = {name: float(chunks.columns[name][chunk]) for name in MEASURES}
            examples.append(Example(f"{kind}-{place}", kind, place, path, float(start), *pair, measures))
    return examples


def first_audible_samples(chunks: Measured) -> dict[int, int]:
    """By recording, the first sample of its first chunk that is not silent; silent recordings are left out."""
    loud = chunks.where(~chunks.silent)
    return {int(source): int(loud.starts[loud.sources == source].min()) for source in np.unique(loud.sources)}


def spread_recordings(chunks: Measured) -> list[int]:
    """The recordings with the best, median and worst mean SI-SDR, in this order; all where there are fewer."""
    loud = chunks.where(~chunks.silent)
    mean = {source: loud.columns["si_sdr"][loud.sources == source].mean() for source in np.unique(loud.sources)}
    ranked = sorted(mean, key=lambda source: -mean[source])
    places = np.linspace(0, len(ranked) - 1, min(RECORDINGS, len(ranked)))
    return [int(ranked[round(place)]) for place in places]


def passages(model: Autoencoder, split: Split, chunks: Measured, starts: dict[int, int]) -> list[Example]:
    """Passages of a few recordings, joined from their chunks and reconstructed in one piece.

    Args:
        model: A model in evaluation mode.
        split: The split with the recordings.
        chunks: The measures of each chunk.
        starts: By recording, the first sample of its passage, from `first_audible_samples`.
    """
    examples = []
    for place, source in enumerate(spread_recordings(chunks), start=1):
        first = starts[source]
        recording = join_chunks(split, source, first, SECONDS)
        output = reconstruct_recording(model, torch.from_numpy(recording)).cpu()
        whole = [audio.view(1, split.channels, -1) for audio in (output, torch.from_numpy(recording).contiguous())]
        values = {k: v.item() for k, v in measure(whole[0], whole[1], split.rate).items()}
        path, start = split.manifest.sources[source].path, first / split.rate
        pair = recording, output.numpy()
        examples.append(Example(f"recording-{source}", "recording", place, path, start, *pair, values))
    return examples
