"""What a run shows next to its curves: held-out examples as audio and spectrograms, and how codes are used."""

from dataclasses import dataclass, field

import numpy as np

from train.tracking.media import Audio, Histogram, Item, Page, Picture

PAUSE_S = 0.25
# Range of the histograms of codebook use: octaves below and above uniform use.
OCTAVES = 8
BINS_AN_OCTAVE = 2


@dataclass
class Examples:
    """Held-out chunks, their reconstructions and the use of codes at one step.

    Attributes:
        step: The optimizer step.
        names: Names of n held-out chunks.
        reference: The chunks, [n, T], of stereo [n, 2, T], in [-1, 1].
        reconstruction: The model's outputs for them, of the same shape.
        measures: By name in `MEASURED` (measuring/metrics.py), the value of each chunk [n]; NaN where undefined.
        rate: Sampling rate in Hz.
        usage: By codebook, the share of each code [K]; empty for families without codes.
    """

    step: int
    names: list[str]
    reference: np.ndarray
    reconstruction: np.ndarray
    measures: dict[str, np.ndarray]
    rate: int
    usage: dict[str, np.ndarray] = field(default_factory=dict)

    def items(self) -> dict[str, Item]:
        """What to show, by panel name."""
        # Imported here: they draw with Matplotlib, which a run without W&B does not need.
        from train.evaluation.drawing.pictures import comparison, ranking
        from train.evaluation.report.panel import examples_table

        pair = [np.concatenate([*each], axis=-1) for each in (self.reference, self.reconstruction)]
        picture = comparison(pair[0], pair[1], self.rate)
        table = examples_table(self.names, self.reference, self.reconstruction, self.measures, self.rate, self.step)
        items: dict[str, Item] = {
            "valid/reference_then_reconstruction": Audio(self._audio(), self.rate),
            "valid/spectrograms": Picture(picture),
            "valid/examples": Page(table),
        }
        if self.usage:
            for name, share in self.usage.items():
                items[f"codebook/use_{name}"] = histogram_of_use(share)
            items["codebook/use_by_rank"] = Picture(ranking(self.usage))
        return items

    def _audio(self) -> np.ndarray:
        """Reference, pause, reconstruction, pause for each chunk in turn: [T] or [2, T] in [-1, 1]."""
        pause = np.zeros((*self.reference.shape[1:-1], int(PAUSE_S * self.rate)), dtype=np.float32)
        pairs = zip(self.reference, self.reconstruction, strict=True)
        return np.concatenate([part for a, b in pairs for part in (a, pause, b, pause)], axis=-1).clip(-1, 1)


def histogram_of_use(share: np.ndarray) -> Histogram:
    """A histogram of how often codes are used: counts of codes [32] between edges [33].

    The axis is log2(K * share) in octaves: 0 is uniform use. The outermost bins also count what lies outside. The
    edges never change, so histograms of different steps can be compared.

    Args:
        share: The share of each of K codes, [K]; adds up to 1.
    """
    edges = np.linspace(-OCTAVES, OCTAVES, 2 * OCTAVES * BINS_AN_OCTAVE + 1)
    use = np.log2(np.maximum(share * len(share), 2.0**-OCTAVES))
    return Histogram(*np.histogram(use.clip(-OCTAVES, OCTAVES), bins=edges))
