"""Which models are trained, decided before anything runs."""

from dataclasses import dataclass, replace

SEEDS = (0, 1, 2)
MINUTE = 60.0


@dataclass(frozen=True)
class Trial:
    """One model.

    Attributes:
        name: Of its folder.
        family: vae, hvae or vqvae.
        preset: A file under train/configs, without its ending.
        flags: More flags of the training command.
        seed: Of weights, order and noise.
        seconds: Of training, the same for all that are compared.
        steps: Optimizer steps instead, when not 0.
        alteration: What is changed that no setting changes; see `altered.ALTERATIONS`.
    """

    name: str
    family: str
    preset: str
    flags: tuple[str, ...] = ()
    seed: int = 0
    seconds: float = 5 * MINUTE
    steps: int = 0
    alteration: str = ""

    @property
    def pace_key(self) -> tuple:
        """Trials that share it make equally many steps: an alteration is compared at equal steps."""
        return self.family, self.preset, self.flags

    @property
    def model_key(self) -> "Trial":
        """Trials that share it train the same model."""
        return replace(self, name="", seconds=0.0 if self.steps else self.seconds)


def each_seed(trial: Trial) -> list[Trial]:
    """The trial with every seed."""
    return [replace(trial, name=f"{trial.name}-{seed}", seed=seed) for seed in SEEDS]


KL_FREE = ("--weights.kl", "0")
HVAE_KL_FREE = ("--weights.kl", "[0,0,0,0]", "--model.free_nats", "[0,0,0,0]", "--model.balance_steps", "0")
# The trunk of the VQ-VAE with latents that are neither quantised nor charged.
UNQUANTISED = ("--model.trunk.strides", "[70,3]", "--model.trunk.channels", "[96,256]", "--model.latent", "64")
EVERY_STEP = ("--tracking.every", "1")
LONG_SCALE = {
    "small": ("--model.trunk.channels", "[64,128]"),
    "large": ("--model.trunk.channels", "[256,512]"),
}

FAMILIES = [
    Trial("vae", "vae", "vae_tiny"),
    Trial("hvae", "hvae", "hvae_tiny"),
    Trial("vqvae", "vqvae", "vqvae_tiny"),
]
CEILINGS = [
    Trial("vae-ceiling", "vae", "vae_tiny", KL_FREE),
    Trial("hvae-ceiling", "hvae", "hvae_tiny", HVAE_KL_FREE),
    Trial("vqvae-ceiling", "vae", "vae_tiny", KL_FREE + UNQUANTISED),
]
STUDY = [
    Trial("study-pooled-vae", "vae", "study/pooled_vae"),
    Trial("study-hvae", "hvae", "study/two_level_hvae"),
    Trial("study-vqvae", "vqvae", "study/single_vqvae"),
    Trial("study-batchnorm-vae", "vae", "study/batchnorm_vae"),
    Trial("study-spectrogram-vae", "vae", "study/spectrogram_vae"),
    Trial("study-mel-vae", "vae", "study/mel_vae"),
]
MEL = [Trial(f"{family}-mel", family, f"{family}_mel_tiny") for family in ("vae", "hvae", "vqvae")]
SIZES = [Trial(f"vae-{size}", "vae", "vae_tiny", flags) for size, flags in LONG_SCALE.items()]
# What stands first in the trunk, at equal time: a layer that starts as cosines (the preset), a fixed bank of filters,
# or a layer that starts at random.
FIRST_LAYER = [
    Trial("vae-multiband", "vae", "vae_tiny", ("--model.trunk.strides", "[7,5]"), alteration="multiband-14"),
    Trial("vae-random", "vae", "vae_tiny", ("--model.trunk.start", "random")),
]
POSTERIOR = [
    *each_seed(Trial("vae-posterior", "vae", "vae_tiny", seconds=2 * MINUTE)),
    *each_seed(Trial("hvae-posterior", "hvae", "hvae_tiny", seconds=2 * MINUTE)),
    Trial("hvae-plain", "hvae", "study/two_level_hvae", seconds=2 * MINUTE),
]
CODEBOOK = Trial("codes", "vqvae", "vqvae_codes", seconds=3 * MINUTE)
CODEBOOKS = [
    *each_seed(CODEBOOK),
    replace(CODEBOOK, name="codes-rival-default", alteration="rival-default"),
    replace(CODEBOOK, name="codes-rival-tuned", alteration="rival-tuned"),
]
FAST = ("--optim.lr", "0.008", *EVERY_STEP)  # four times the preset's
FIXED = ("--model.quantizer.commitment", "fixed", "--weights.anchor", "0")
STABILITY = [
    *each_seed(Trial("fast-adaptive", "vqvae", "vqvae_tiny", FAST, seconds=2 * MINUTE)),
    *each_seed(Trial("fast-fixed", "vqvae", "vqvae_tiny", FAST + FIXED, seconds=2 * MINUTE)),
]
LEVELS = [
    Trial(f"level-{kind}-{gain}", "vqvae", "vqvae_tiny", flags, seconds=2 * MINUTE, alteration=alteration)
    for kind, flags in (("adaptive", ()), ("fixed", FIXED))
    for gain, alteration in (("0.1", "gain-0.1"), ("1", ""), ("10", "gain-10"))
]

# In this order: with little time the last ones are left out.
TRIALS = [
    *FAMILIES,
    *CEILINGS,
    *STUDY[:3],
    *POSTERIOR,
    *CODEBOOKS,
    *STABILITY,
    *LEVELS,
    *STUDY[3:],
    *MEL,
    *SIZES,
    *FIRST_LAYER,
]

# What no short form needs: tables, and what is only measured beside.
NOT_QUICK = {trial.name for trial in [*MEL, *SIZES, *FIRST_LAYER]}
NOT_QUICK |= {"study-batchnorm-vae", "study-spectrogram-vae", "study-mel-vae", "vae-ceiling"}
NOT_QUICK |= {f"level-fixed-{gain}" for gain in ("0.1", "1", "10")}
QUICK_BATCH = 8
QUICK_START = 40


def shortened(trials: list[Trial], steps: int = 150) -> list[Trial]:
    """The first seed of each, as many steps of small batches, without those of NOT_QUICK."""
    chosen = []
    for trial in trials:
        if trial.name not in NOT_QUICK and not trial.seed:
            flags = (*trial.flags, "--data.batch", str(QUICK_BATCH))
            if trial.family == "vqvae":
                flags += ("--model.quantizer.start_step", str(QUICK_START))
            chosen.append(replace(trial, flags=flags, steps=steps))
    return chosen
