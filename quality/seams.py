"""Whether the joints of whole recordings can be heard: the error where chunks are cross-faded against elsewhere."""

from pathlib import Path

import numpy as np
import soundfile

OVERLAP = 0.25  # as reports do it


def error_at_joints(report: Path, samples: int) -> float:
    """Mean squared error within the cross-fades over that elsewhere, of a report's whole recordings; 1 is no seam.

    Args:
        report: A run's report folder.
        samples: Of a chunk.
    """
    fade = int(samples * OVERLAP)
    inside, outside = [], []
    for file in sorted((report / "audio").glob("recording-*-reference.wav")):
        reference, _ = soundfile.read(file)
        output, _ = soundfile.read(str(file).replace("-reference.wav", "-reconstruction.wav"))
        joint = np.arange(len(reference)) % (samples - fade) < fade
        joint[:fade] = False  # the first chunk begins alone
        error = np.square(output - reference)
        inside.append(error[joint])
        outside.append(error[~joint])
    return float(np.concatenate(inside).mean() / np.concatenate(outside).mean())
