"""A run's settings: one dataclass a family, read from YAML files and flags."""

import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from jsonargparse.typing import (
    ClosedUnitInterval,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
)

from audiovae.models.hvae import HVAEConfig
from audiovae.models.vae import VAEConfig
from audiovae.models.vqvae import VQVAEConfig
from shards.reading.remote.failures import cleaned
from shards.reading.remote.records import is_url
from train.optim.objective import HVAEWeights, VAEWeights, VQVAEWeights
from train.optim.schedules import Ramp


@dataclass
class DataConfig:
    """Where the shards are and how they are batched.

    Attributes:
        path: Folder made by `python -m shards build`, or the URL of one (s3://, gs://, https://); `--data DIR`
            for short.
        batch: Chunks in an optimizer step, over all processes: it stays the same on any number of GPUs.
        microbatch: The most chunks that a process takes at once; 0 means its whole share. Smaller values
            save memory by accumulating gradients and change nothing else.
        memory_gb: Memory that the data may take on a node, in GB; 0 means half of what is free. Shards that fit
            are kept in memory; of larger ones, blocks are read shortly before they are needed.
        scratch: A folder on the node's own disk, such as $SLURM_TMPDIR, to copy the shards to while they are read
            from where they are. The processes of a node share the copy.
        scratch_gb: The most that the copy may take, in GB; 0 means all free space but 5 percent of the disk.
        damage_limit: The share of the training chunks that may be damaged; they are replaced by others. 0 allows
            none.
    """

    path: str
    batch: PositiveInt = 64
    microbatch: NonNegativeInt = 0
    memory_gb: NonNegativeFloat = 0.0
    scratch: Path | None = None
    scratch_gb: NonNegativeFloat = 0.0
    damage_limit: ClosedUnitInterval = 0.001

    @property
    def place(self) -> str:
        """The path so that it holds from any folder; of a URL, what may be shown: no password, no signature."""
        return cleaned(self.path) if is_url(self.path) else str(Path(self.path).resolve())


@dataclass
class OptimConfig:
    """AdamW with warm-up and decay.

    Attributes:
        steps: Optimizer steps of the whole run.
        lr: Peak learning rate.
        warmup_steps: Steps of linear warm-up.
        final_lr: Last learning rate as a share of the peak.
        schedule: After the warm-up: cosine falls all the way; constant stays, and falls at the end.
        decay_share: Share of the steps that the fall at the end of a constant rate takes.
        weight_decay: Decoupled weight decay.
        betas: Decay rates of Adam's moments.
        clip: Largest norm of the gradient; longer ones are scaled down.
        explode: Steps whose gradient is longer than so many times the typical norm are skipped; 0 means never.
        ema: Longest decay of the averaged weights, which evaluation and export use.
        skip_limit: Steps in a row that may be skipped, for values that are not finite or that explode, before the
            run ends.
    """

    steps: PositiveInt = 100_000
    lr: PositiveFloat = 1e-3
    warmup_steps: NonNegativeInt = 200
    final_lr: ClosedUnitInterval = 0.05
    schedule: Literal["cosine", "constant"] = "cosine"
    decay_share: ClosedUnitInterval = 0.2
    weight_decay: NonNegativeFloat = 0.01
    betas: tuple[float, float] = (0.9, 0.95)
    clip: PositiveFloat = 1.0
    explode: NonNegativeFloat = 0.0
    ema: ClosedUnitInterval = 0.999
    skip_limit: PositiveInt = 50

    def __post_init__(self) -> None:
        if not math.isfinite(self.lr) or not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"optim.lr is {self.lr} and optim.betas {self.betas}: finite, and in [0, 1)")
        if 0 < self.explode <= 1 or not math.isfinite(self.explode):
            raise ValueError(f"optim.explode is {self.explode}: above 1, or 0 for never")


@dataclass
class CheckpointConfig:
    """When to save and what to keep.

    Attributes:
        every: Steps between saves.
        keep: Newest checkpoints that stay.
        keep_best: Keep the one with the best held-out SI-SDR too.
        keep_every: Keep those whose step is a multiple of this too; 0 means none.
    """

    every: PositiveInt = 1000
    keep: PositiveInt = 3
    keep_best: bool = True
    keep_every: NonNegativeInt = 0


@dataclass
class TrackingConfig:
    """What is logged and where.

    Attributes:
        every: Steps between points.
        evaluate_every: Steps between measurements on held-out chunks.
        evaluate_chunks: The most held-out chunks that one measurement takes; 0 means all.
        audio_every: Steps between held-out examples as audio and pictures.
        wandb: online, offline, disabled, or auto: online with an API key, else offline.
        project: W&B project.
        name: W&B run name; the run folder's name when empty.
        samples: Write the chunks of every step to `samples/` in the run folder, one file for each process.
    """

    every: PositiveInt = 20
    evaluate_every: PositiveInt = 1000
    evaluate_chunks: NonNegativeInt = 512
    audio_every: PositiveInt = 5000
    wandb: Literal["auto", "online", "offline", "disabled"] = "auto"
    project: str = "audio-autoencoders"
    name: str = ""
    samples: bool = False


@dataclass
class RunConfig:
    """What all families share.

    Attributes:
        data: Shards and batches.
        run_dir: The run's folder: new, or one to resume.
        seed: Of weights, order and noise.
        kl_warmup: Rise of the KL weights, the beta warm-up.
        optim: Optimisation.
        checkpoint: Saving.
        tracking: Logging.
        stop_at: End this attempt after that step as if STOP had been touched; 0 means at no step.
        watchdog_s: Seconds without a step after which a process writes down where it stands and ends, instead of
            hanging; 0 means never. With compile it is an hour at least.
        compile: Pass through the model by torch.compile: minutes of compiling first; it needs a C++ compiler, on GPUs
            a C compiler, and changes nothing but speed.
        preflight: Look at devices, shards, disk and W&B before the first step of each attempt; it takes seconds.
        allow_changes: Resume although settings differ from those the run was started with.
    """

    data: DataConfig
    run_dir: Path
    seed: NonNegativeInt = 0
    kl_warmup: Ramp = field(default_factory=Ramp)
    optim: OptimConfig = field(default_factory=OptimConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    stop_at: NonNegativeInt = 0
    watchdog_s: NonNegativeFloat = 900.0
    compile: bool = False
    preflight: bool = True
    allow_changes: bool = False

    def __post_init__(self) -> None:
        if self.seed >= 2**63:
            raise ValueError(f"seed is {self.seed}: below 2^63")


@dataclass
class VAERun(RunConfig):
    """Train a VAE: Gaussian latents along time.

    Attributes:
        model: The model's shape.
        weights: Weights of the loss terms.
    """

    model: VAEConfig = field(default_factory=VAEConfig)
    weights: VAEWeights = field(default_factory=VAEWeights)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.model.learned_variance and not self.weights.likelihood:
            raise ValueError("model.learned_variance has no effect without weights.likelihood: give it, usually 1")


@dataclass
class HVAERun(RunConfig):
    """Train a hierarchical VAE: two to four levels of latents, top-down.

    Attributes:
        model: The model's shape.
        weights: Weights of the loss terms.
    """

    model: HVAEConfig = field(default_factory=HVAEConfig)
    weights: HVAEWeights = field(default_factory=HVAEWeights)


@dataclass
class VQVAERun(RunConfig):
    """Train a VQ-VAE: residual codebooks along time.

    Attributes:
        model: The model's shape.
        weights: Weights of the loss terms.
    """

    model: VQVAEConfig = field(default_factory=VQVAEConfig)
    weights: VQVAEWeights = field(default_factory=VQVAEWeights)

    def __post_init__(self) -> None:
        super().__post_init__()
        start = self.model.quantizer.start_step
        if self.optim.steps <= start:
            raise ValueError(
                f"optim.steps is {self.optim.steps}, but the codebooks start after "
                f"model.quantizer.start_step = {start}: raise the one or lower the other"
            )


RUNS: dict[str, type[RunConfig]] = {"vae": VAERun, "hvae": HVAERun, "vqvae": VQVAERun}

# What may differ between attempts of one run: it does not change what is learnt.
FREE = (
    *("data.path", "data.microbatch", "data.memory_gb", "data.scratch", "data.scratch_gb", "data.damage_limit"),
    *("run_dir", "checkpoint", "tracking", "stop_at", "watchdog_s", "compile", "preflight", "allow_changes"),
)


def settings_of(config: "RunConfig") -> dict[str, Any]:
    """Settings as dotted keys with plain values, for the record: without what is secret in the data's URL."""
    return {**flat(config), "data.path": config.data.place}


def flat(config: Any, prefix: str = "") -> dict[str, Any]:
    """Settings as dotted keys with plain values."""
    result: dict[str, Any] = {}
    values = asdict(config) if not isinstance(config, dict) else config
    for name, value in values.items():
        key = f"{prefix}{name}"
        if isinstance(value, dict):
            result |= flat(value, f"{key}.")
        else:
            result[key] = [*value] if isinstance(value, tuple) else str(value) if isinstance(value, Path) else value
    return result


def default_settings(family: str) -> dict[str, Any]:
    """What the settings of a family are when nobody sets them; those of every run are not told."""
    return flat(RUNS[family](data=DataConfig(""), run_dir=Path()))


def differences(before: dict[str, Any], now: dict[str, Any], defaults: dict[str, Any]) -> list[str]:
    """Lines 'key: before -> now' for the settings that must stay the same in a run but do not.

    What `before` does not know was no setting yet when the run began: it has been as `defaults` since.
    """
    before = {**{key: value for key, value in defaults.items() if key in now}, **before}
    keys = sorted(before.keys() | now.keys())
    bound = [key for key in keys if not any(key == free or key.startswith(f"{free}.") for free in FREE)]
    return [
        f"{key}: {before.get(key, 'not set')} -> {now.get(key, 'not set')}"
        for key in bound
        if before.get(key) != now.get(key)
    ]
