"""What a run of a prior shows next to its curves: recordings that are drawn from it."""

from dataclasses import dataclass

import numpy as np

from train.tracking.media import Audio, Item, Picture
from train.training.held_out.examples import PAUSE_S


@dataclass
class Drawn:
    """Recordings that are drawn from a prior, of any lengths.

    Attributes:
        recordings: [T], of stereo [2, T], each, in about [-1, 1].
        rate: Sampling rate in Hz.
    """

    recordings: list[np.ndarray]
    rate: int

    def items(self) -> dict[str, Item]:
        """What to show, by panel name."""
        # Imported here: it draws with Matplotlib, which a run without W&B does not need.
        from train.evaluation.drawing.pictures import spectrogram

        pause = np.zeros((*self.recordings[0].shape[:-1], int(PAUSE_S * self.rate)), dtype=np.float32)
        audio = np.concatenate([part for one in self.recordings for part in (one, pause)], axis=-1).clip(-1, 1)
        return {
            "generated/audio": Audio(audio, self.rate),
            "generated/spectrograms": Picture(spectrogram(audio, self.rate)),
        }
