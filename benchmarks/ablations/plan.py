"""The trials of the ablations: vae_tiny as it is and with each change, in the same seeds and for the same time."""

from collections.abc import Iterable

from benchmarks.trials.trial import Trial

PRESET = "preset"
# Names of the alterations, see `benchmarks.variants`, and what the table calls them.
CHANGES = {
    PRESET: "vae_tiny as it is",
    "windows": "seven STFT windows, 2048 to 32",
    "mel": "multi-scale mel beside the STFT",
    "weighted": "K weighting before the STFT",
    "phase": "instantaneous frequency and group delay",
    "snake": "snake activations",
    "attention": "two layers of attention",
}


def trials(changes: Iterable[str], seeds: int, seconds: float, perceptual: bool) -> list[Trial]:
    """Every change in every seed; the first seed of all of them comes first."""
    measures = ("--examples", "2", *["--perceptual"] * perceptual)
    return [
        Trial(
            f"{change}-{seed}",
            "vae",
            "vae_tiny",
            seed=seed,
            seconds=seconds,
            alteration="" if change == PRESET else change_name(change),
            own_pace=True,
            measures=measures,
        )
        for seed in range(seeds)
        for change in changes
    ]


def change_name(change: str) -> str:
    """The alteration of a change, one of ALTERATIONS of `benchmarks.variants`."""
    return f"change-{change}"
