"""The error at chunk boundaries of whole recordings, compared with the error elsewhere."""

from pathlib import Path

import numpy as np
import soundfile
import torch

import audiovae
from audiovae import Autoencoder
from audiovae.recordings.overlap_add import fade_of

OVERLAP = 0.25  # as in reports


def error_at_joints(run: Path) -> float:
    """Mean squared error within cross-fades, divided by that of the same samples elsewhere in chunks; 1 is no seam.

    Each recording of the run's report is reconstructed twice, the second time with chunks that start half a step later.
    So each sample is measured both at a boundary and away from one, and the content of the recording cancels out.
    """
    model = audiovae.load(run)
    at, away = 0.0, 0.0
    for file in sorted((run / "report" / "audio").glob("recording-*-reference.wav")):
        audio, _ = soundfile.read(file, dtype="float32")
        joints, elsewhere = errors_at_joints(model, audio)
        at, away = at + joints, away + elsewhere
    return at / away


def errors_at_joints(model: Autoencoder, audio: np.ndarray) -> tuple[float, float]:
    """Sums of squared errors of a recording [T] at boundaries, and of the same samples away from boundaries."""
    step = model.samples - fade_of(model.samples, OVERLAP)
    errors, joints = [], []
    for shift in (0, step // 2):
        shifted = torch.cat([torch.zeros(shift), torch.from_numpy(audio)])
        output = audiovae.reconstruct_recording(model, shifted, OVERLAP)[shift:].numpy()
        place = np.arange(shift, shift + len(audio))
        joint = place % step < model.samples - step
        joint[: model.samples] = joint[-model.samples :] = False  # the first and last chunk have no neighbour
        errors.append(np.square(output - audio))
        joints.append(joint)
    first, second = joints[0] & ~joints[1], joints[1] & ~joints[0]
    at = errors[0][first].sum() + errors[1][second].sum()
    return float(at), float(errors[1][first].sum() + errors[0][second].sum())
