"""Facts about the training of a model, for its card."""

from dataclasses import dataclass, field
from typing import Any


@dataclass
class Facts:
    """Facts about a model's training; unknown ones are empty. They contain no path of the training machine.

    Attributes:
        name: Name of the model, such as that of its run.
        steps: Optimizer steps.
        chunks_seen: Chunks of training including repeats.
        data: About the training split, as far as known: `fingerprint`, `recordings`, `chunks`, `hours`, `level` (how
            levels were normalised).
        settings: Settings of the training by dotted name.
        nats_per_second: KL divergence from the prior on each level of latents, finest first; empty for codes.
        measures: Measures on held-out chunks by name: `si_sdr` in dB, `stft`, `mel`, `mse`, `cosine`.
        measured_on: The data of the measures: `split`, `chunks`, `fingerprint`.
    """

    name: str = ""
    steps: int = 0
    chunks_seen: int = 0
    data: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    nats_per_second: list[float] = field(default_factory=list)
    measures: dict[str, float] = field(default_factory=dict)
    measured_on: dict[str, Any] = field(default_factory=dict)
