"""A run's settings: one dataclass for each family, read from YAML files and flags."""

from dataclasses import asdict, dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any, ClassVar, Literal

import yaml
from jsonargparse.typing import (
    NonNegativeFloat,
    NonNegativeInt,
    PositiveInt,
)

from audiovae.layers.levels import LevelsConfig
from audiovae.models.hvae import HVAEConfig
from audiovae.models.vae import VAEConfig
from audiovae.models.vqvae import VQVAEConfig
from audiovae.priors.latents import LATENTS
from audiovae.priors.settings import PriorConfig, PriorSettings
from audiovae.saved.kinds import latents_of
from shards.files import is_number, is_whole
from shards.manifest import Manifest
from train.adversarial.settings import AdversarialConfig
from train.augment.settings import AugmentConfig
from train.data_settings import DataConfig
from train.optim.objective import HVAEWeights, PriorWeights, VAEWeights, VQVAEWeights
from train.optim.ranking import OF_AUTOENCODERS, OF_PRIORS, Measure, Until
from train.optim.schedules import Ramp
from train.optim.settings import OptimConfig


@dataclass
class StartConfig:
    """Weights of another model for a new run to start from. Without them weights are random.

    Attributes:
        path: A model folder, a checkpoint or a run, whose newest model is taken; short form: `--start_from PATH`.
            Settings of the model and weights of the losses come from there too, unless others are given.
        only: Parts of the model to take, such as [encoder]; the others start at random. Empty means all.
    """

    path: str = ""
    only: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.only and not self.path:
            raise ValueError("start_from.only has no effect without start_from.path: set it")


@dataclass
class CheckpointConfig:
    """When to save checkpoints, and which to keep.

    Attributes:
        every: Steps between checkpoints.
        keep: Number of newest checkpoints to keep.
        keep_best: Also keep the checkpoint with the best held-out value of `best_by`.
        best_by: The held-out measure that says which checkpoint is the best. `frechet` and `zimtohrli` are measured
            only where this setting or `until` names them; `zimtohrli` takes about 0.06 s of a core for each second.
        keep_every: Also keep checkpoints whose step is a multiple of this; 0 means none.
        export_good: If the training has diverged when it ends, `model/` is made from the last good checkpoint; false
            takes the last step in any case.
    """

    every: PositiveInt = 1000
    keep: PositiveInt = 3
    keep_best: bool = True
    best_by: Measure = "si_sdr"
    keep_every: NonNegativeInt = 0
    export_good: bool = True


@dataclass
class TrackingConfig:
    """What is logged, when, and where.

    Attributes:
        every: Steps between logged points.
        evaluate_every: Steps between evaluations on held-out chunks.
        evaluate_chunks: The most held-out chunks in one evaluation; 0 means all.
        audio_every: Steps between held-out examples as audio and pictures; only steps with an evaluation have them.
        wandb: Mode of W&B. `auto` is the value of WANDB_MODE if that is set, else online with an API key, else
            offline.
        project: W&B project; if empty, WANDB_PROJECT of the first attempt, else audio-autoencoders.
        name: W&B run name; if empty, WANDB_NAME of the first attempt, else the name of the run folder.
        samples: Write the chunks of every step to `samples/` in the run folder, one file for each process.
        profile: Profile this step and the two after it, in the folder `profile/` of the run: a trace that
            ui.perfetto.dev opens, and on a GPU a snapshot of its memory. 0 means never; short form: `--profile STEP`.
    """

    every: PositiveInt = 20
    evaluate_every: PositiveInt = 1000
    evaluate_chunks: NonNegativeInt = 512
    audio_every: PositiveInt = 5000
    wandb: Literal["auto", "online", "offline", "disabled"] = "auto"
    project: str = ""
    name: str = ""
    samples: bool = False
    profile: NonNegativeInt = 0


@dataclass
class RunConfig:
    """Settings of all families.

    Attributes:
        data: Shards and batches.
        run_dir: Folder of the run: new, or that of a run to resume.
        seed: Seed of initial weights, data order, noise, windows and augmentation.
        augment: Random changes of training chunks; off by default.
        start_from: Weights to start from.
        kl_warmup: Rise of the KL weights (beta warm-up).
        optim: Optimisation.
        adversarial: A second phase against a discriminator; off by default.
        checkpoint: Saving.
        tracking: Logging.
        stop_at: Stop this attempt after this step, with everything saved; 0 means never.
        until: MEASURE:STEPS, such as mel:20000: the run finishes before `optim.steps` once so many steps have passed
            since the best held-out value of the measure. The adversarial phase counts from its first evaluation on.
        watchdog_s: Seconds without progress after which a process writes the stacks of its threads to a file and
            ends, instead of hanging; 0 means never. With `compile` it is at least an hour.
        compile: Compile the training pass with torch.compile. This takes minutes at the start, needs a C++ compiler
            (on GPUs also a C compiler), and changes nothing but speed.
        preflight: Check devices, shards, disk and W&B before the first step of each attempt; this takes seconds.
        allow_changes: Resume even if settings differ from those of the run; the new ones become its settings, and
            `status`, the report and W&B show the change.
        relocated: For a run folder that is not where it was, if the program cannot tell: `moved` goes on as the same
            W&B run, `copied` as a run of its own that names its parent. Without effect on other folders.
    """

    # Groups of settings that a family does not have, and the held-out measures that it has.
    unused: ClassVar[tuple[str, ...]] = ()
    measures: ClassVar[tuple[str, ...]] = OF_AUTOENCODERS
    # What to do with a finished run, with its folder in place of {}.
    next_command: ClassVar[str] = "python -m train evaluate {}"

    data: DataConfig
    run_dir: Path
    seed: NonNegativeInt = 0
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    start_from: StartConfig = field(default_factory=StartConfig)
    kl_warmup: Ramp = field(default_factory=Ramp)
    optim: OptimConfig = field(default_factory=OptimConfig)
    adversarial: AdversarialConfig = field(default_factory=AdversarialConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    stop_at: NonNegativeInt = 0
    until: str = ""
    watchdog_s: NonNegativeFloat = 900.0
    compile: bool = False
    preflight: bool = True
    allow_changes: bool = False
    relocated: Literal["ask", "moved", "copied"] = "ask"

    def __post_init__(self) -> None:
        if self.seed >= 2**63:
            raise ValueError(f"seed is {self.seed}: it must be below 2^63")
        until = Until.parse(self.until)
        named = {"checkpoint.best_by": self.checkpoint.best_by, **({"until": until.measure} if until else {})}
        for setting, measure in named.items():
            if measure not in self.measures:
                raise ValueError(f"{setting} is {measure}: this family has {', '.join(self.measures)}")
        start = self.phase_start
        if start is not None and start >= self.optim.steps:
            raise ValueError(
                f"adversarial.start is {start} and optim.steps {self.optim.steps}: raise optim.steps or lower the start"
            )

    def model_settings(self, manifest: Manifest, where: str) -> Any:
        """What the model is built from, for chunks of a data set.

        Args:
            manifest: The manifest of the data set.
            where: Its folder or URL, for messages.

        Raises:
            ValueError: when the data set is of another kind.
        """
        if LATENTS in manifest.settings:
            raise ValueError(f"{where} holds latents of recordings: train a prior with it, or pass a folder of audio")
        return self.model  # type: ignore[attr-defined]

    @property
    def patience(self) -> Until | None:
        """When the run ends before its last step; None for never."""
        return Until.parse(self.until)

    @property
    def phase_start(self) -> int | None:
        """The step at which the adversarial phase begins; None for never."""
        # A share is one of the run's first length, so that the phase stays where it was when a run is made longer.
        return self.adversarial.start_step(self.optim.hold_from or self.optim.cycle_from or self.optim.steps)


def _check_phase(run: "RunConfig", representation: str) -> None:
    """Raises ValueError if there is an adversarial phase for a model of spectra."""
    if run.phase_start is not None and representation != "waveform":
        raise ValueError(
            "adversarial.start needs a model of waveforms, and model.representation.kind is "
            f"{representation}: leave it out"
        )


def _check_levels(levels: LevelsConfig, weight: float) -> None:
    """Raises ValueError if levels are on and their loss has no weight."""
    if levels.bands and not weight:
        raise ValueError("model.levels.bands has no effect without weights.levels: set it, usually to 0.01")


@dataclass
class VAERun(RunConfig):
    """Train a VAE: Gaussian latents along time.

    Attributes:
        model: Architecture of the model.
        weights: Weights of the loss terms.
    """

    model: VAEConfig = field(default_factory=VAEConfig)
    weights: VAEWeights = field(default_factory=VAEWeights)

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_phase(self, self.model.representation.kind)
        if self.model.learned_variance and not self.weights.likelihood:
            raise ValueError("model.learned_variance has no effect without weights.likelihood: set it, usually to 1")
        _check_levels(self.model.levels, self.weights.levels)


@dataclass
class HVAERun(RunConfig):
    """Train a hierarchical VAE: two to four levels of latents, top-down.

    Attributes:
        model: Architecture of the model.
        weights: Weights of the loss terms.
    """

    model: HVAEConfig = field(default_factory=HVAEConfig)
    weights: HVAEWeights = field(default_factory=HVAEWeights)

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_phase(self, self.model.representation.kind)
        _check_levels(self.model.levels, self.weights.levels)


@dataclass
class VQVAERun(RunConfig):
    """Train a VQ-VAE: residual codebooks along time.

    Attributes:
        model: Architecture of the model.
        weights: Weights of the loss terms.
    """

    model: VQVAEConfig = field(default_factory=VQVAEConfig)
    weights: VQVAEWeights = field(default_factory=VQVAEWeights)

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_phase(self, self.model.representation.kind)
        start = self.model.quantizer.start_step
        only = self.start_from.only
        has_codebooks = self.start_from.path and (not only or "quantizer" in only)
        if self.optim.steps <= start and not has_codebooks:
            raise ValueError(
                f"optim.steps is {self.optim.steps}, but the codebooks start after "
                f"model.quantizer.start_step = {start}: raise the first or lower the second"
            )
        phase = self.phase_start
        if phase is not None and phase <= start and not has_codebooks:
            raise ValueError(
                f"adversarial.start is step {phase}, but the codebooks start after model.quantizer.start_step = "
                f"{start}: raise the first or lower the second"
            )


@dataclass
class PriorRun(RunConfig):
    """Train a prior on the latents of recordings: new recordings can be drawn from it.

    Attributes:
        model: Architecture of the model.
        weights: Weights of the loss terms.
        checkpoint: Saving.
    """

    unused: ClassVar[tuple[str, ...]] = ("augment", "start_from", "kl_warmup", "adversarial")
    measures: ClassVar[tuple[str, ...]] = OF_PRIORS
    next_command: ClassVar[str] = "python -m audiovae generate {} OUT"

    model: PriorSettings = field(default_factory=PriorSettings)
    weights: PriorWeights = field(default_factory=PriorWeights)
    checkpoint: CheckpointConfig = field(default_factory=lambda: CheckpointConfig(best_by="loss"))

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.data.crop:
            raise ValueError("data.crop is for autoencoders, and a prior learns whole windows of latents: leave it out")

    def model_settings(self, manifest: Manifest, where: str) -> PriorConfig:
        """See `RunConfig.model_settings`."""
        if LATENTS not in manifest.settings:
            raise ValueError(f"{where} holds audio: make latents of it first: python -m train encode RUN {where} OUT")
        try:
            return PriorConfig(latents_of(manifest.settings), self.model)
        except ValueError as error:
            raise ValueError(f"{where}: dataset.json is damaged ({error}); encode the recordings again") from None


RUNS: dict[str, type[RunConfig]] = {"vae": VAERun, "hvae": HVAERun, "vqvae": VQVAERun, "prior": PriorRun}

# The folder of the presets.
CONFIGS = resources.files("train") / "configs"

# Settings that may change when a run is resumed: they do not change what the model learns.
FREE = (
    *("data.path", "data.microbatch", "data.memory_gb", "data.scratch", "data.scratch_gb", "data.damage_limit"),
    *("run_dir", "checkpoint", "tracking", "stop_at", "watchdog_s", "compile", "preflight", "allow_changes"),
    *("relocated",),
)


def settings_of(config: "RunConfig") -> dict[str, Any]:
    """Settings as dotted keys with plain values, for the record: without secrets in the data's URL.

    Of several data sets their shares and gains are a setting of its own, `data.mix`, as paths may change in a run.
    """
    mix = config.data.mix
    return {**flat(config), "data.path": config.data.place} | ({"data.mix": mix} if mix else {})


def phase_start_of(settings: dict[str, Any]) -> int | None:
    """The step at which the adversarial phase begins, by recorded settings; None for never, or for damaged ones."""
    names = ("optim.hold_from", "optim.cycle_from", "optim.steps")
    start, *lengths = (settings.get(name, 0) for name in ("adversarial.start", *names))
    if not is_number(start) or not start >= 0 or not all(map(is_whole, lengths)):
        return None
    try:
        return AdversarialConfig(start=start).start_step(next(filter(None, lengths), 0))
    except ValueError:
        return None


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
    """The default settings of a family, as dotted keys; those that have no default are empty."""
    return flat(RUNS[family](data=DataConfig(""), run_dir=Path()))


def preset_settings(family: str) -> dict[str, Any]:
    """The settings of the preset with the family's name, as dotted keys; see `train.cli.default_preset`."""
    file = CONFIGS / f"{family}.yaml"
    return flat(yaml.safe_load(file.read_text(encoding="utf-8"))) if file.is_file() else {}


def is_free(key: str) -> bool:
    """Whether a setting, by its dotted key, may differ between the attempts at a run."""
    return any(key == free or key.startswith(f"{free}.") for free in FREE)


def with_defaults(settings: dict[str, Any], family: str, now: dict[str, Any]) -> dict[str, Any]:
    """Recorded settings with the defaults for keys of `now` that did not exist yet when they were recorded."""
    return {**{key: value for key, value in default_settings(family).items() if key in now}, **settings}
