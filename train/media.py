"""What a run shows beside its curves: held-out examples as sound and spectrograms, and how codes are used."""

import io
from dataclasses import dataclass, field
from typing import Any

import numpy as np

PAUSE_S = 0.25
# Of the histograms of codebook use: octaves below and above the use that each code would have if all had the same.
OCTAVES = 8
BINS_AN_OCTAVE = 2


@dataclass
class Media:
    """One sending on the sparse schedule.

    Attributes:
        step: The optimizer step it belongs to.
        names: Of held-out chunks, n of them.
        reference, reconstruction: The chunks and what the model makes of them, [n, T].
        measures: By name of `train.metrics.MEASURED` that of each chunk, [n], NaN where it has none.
        rate: In Hz.
        usage: By codebook the share of each code, [K]; empty for families without codes.
    """

    step: int
    names: list[str]
    reference: np.ndarray
    reconstruction: np.ndarray
    measures: dict[str, np.ndarray]
    rate: int
    usage: dict[str, np.ndarray] = field(default_factory=dict)

    def to_point(self) -> dict[str, Any]:
        """As W&B gets it."""
        # Imported here: a run without W&B needs none of these.
        import wandb

        from train.pictures import comparison, ranking
        from train.report.panel import examples_table

        picture = comparison(self.reference.reshape(-1), self.reconstruction.reshape(-1), self.rate)
        # Not a wandb.Table: that is an artifact, whose files an offline run keeps outside its folder.
        table = examples_table(self.names, self.reference, self.reconstruction, self.measures, self.rate, self.step)
        point = {
            "global_step": self.step,
            "valid/reference_then_reconstruction": wandb.Audio(self._sound(), self.rate),
            "valid/spectrograms": to_image(picture),
            "valid/examples": wandb.Html(table, inject=False, data_is_not_path=True),
        }
        if self.usage:
            for name, share in self.usage.items():
                point[f"codebook/use_{name}"] = wandb.Histogram(np_histogram=histogram_of_use(share))
            point["codebook/use_by_rank"] = to_image(ranking(self.usage))
        return point

    def _sound(self) -> np.ndarray:
        """Reference, pause, reconstruction, pause, for one chunk after the other."""
        pause = np.zeros(int(PAUSE_S * self.rate), dtype=np.float32)
        pairs = zip(self.reference, self.reconstruction, strict=True)
        return np.concatenate([part for a, b in pairs for part in (a, pause, b, pause)]).clip(-1, 1)


def to_image(png: bytes) -> Any:
    """A PNG as W&B takes pictures."""
    import wandb
    from PIL import Image

    return wandb.Image(Image.open(io.BytesIO(png)))


def histogram_of_use(share: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How many codes are used how much: numbers of codes [32] and edges [33].

    Use is in octaves, log2(K * share): 0 is the use that all codes would have if they were used alike, and
    what lies outside is counted in the outermost bins. The edges are always the same, so that histograms of
    different steps stand beside each other.

    Args:
        share: [K], adds up to 1.
    """
    edges = np.linspace(-OCTAVES, OCTAVES, 2 * OCTAVES * BINS_AN_OCTAVE + 1)
    use = np.log2(np.maximum(share * len(share), 2.0**-OCTAVES))
    return np.histogram(use.clip(-OCTAVES, OCTAVES), bins=edges)
