"""The plan: which models are trained."""

from dataclasses import replace

from benchmarks.trials.trial import MINUTE, Trial

SEEDS = (0, 1, 2)


def each_seed(trial: Trial) -> list[Trial]:
    """The trial for every seed."""
    return [replace(trial, name=f"{trial.name}-{seed}", seed=seed) for seed in SEEDS]


KL_FREE = ("--weights.kl", "0")
HVAE_KL_FREE = ("--weights.kl", "[0,0,0,0]", "--model.free_nats", "[0,0,0,0]", "--model.balance_steps", "0")
# The trunk of the VQ-VAE with latents that are neither quantized nor penalized by KL.
UNQUANTIZED = ("--model.trunk.strides", "[70,3]", "--model.trunk.channels", "[96,256]", "--model.latent", "64")
EVERY_STEP = ("--tracking.every", "1")
LONG_SCALE = {
    "small": ("--model.trunk.channels", "[64,128]"),
    "large": ("--model.trunk.channels", "[256,512]"),
}

HEARD = ("--examples", "2", "--perceptual")
FAMILIES = [
    Trial("vae", "vae", "vae_tiny"),
    Trial("hvae", "hvae", "hvae_tiny", measures=HEARD),
    Trial("vqvae", "vqvae", "vqvae_tiny"),
]
# The preset for files of high quality, which begins as a transform codec as hvae_tiny does.
CODEC = Trial("vae-codec", "vae", "vae_codec_tiny", seconds=2 * MINUTE, measures=HEARD)
CEILINGS = [
    Trial("vae-ceiling", "vae", "vae_tiny", KL_FREE),
    Trial("hvae-ceiling", "hvae", "hvae_tiny", HVAE_KL_FREE),
    Trial("vqvae-ceiling", "vae", "vae_tiny", KL_FREE + UNQUANTIZED),
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
# The first layer of the trunk at equal training time: initialized as cosines (the preset), a fixed filter bank, or
# initialized at random. Without levels of the bands, as these are measured on the waveform.
NO_LEVELS = ("--model.levels.bands", "0", "--weights.levels", "0")
FIRST_LAYER = [
    Trial("vae-cosines", "vae", "vae_tiny", NO_LEVELS),
    Trial(
        "vae-multiband", "vae", "vae_tiny", (*NO_LEVELS, "--model.trunk.strides", "[7,5]"), alteration="multiband-14"
    ),
    Trial("vae-random", "vae", "vae_tiny", (*NO_LEVELS, "--model.trunk.start", "random")),
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

# In the order of their importance, because the last ones are skipped if time is short.
TRIALS = [
    *FAMILIES,
    CODEC,
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

# Trials that the quick form skips, because no claim needs them there.
NOT_QUICK = {trial.name for trial in [*MEL, *SIZES, *FIRST_LAYER]}
NOT_QUICK |= {"study-batchnorm-vae", "study-spectrogram-vae", "study-mel-vae", "vae-ceiling"}
NOT_QUICK |= {f"level-fixed-{gain}" for gain in ("0.1", "1", "10")}
QUICK_BATCH = 8
QUICK_START = 40


def shortened(trials: list[Trial], steps: int = 150) -> list[Trial]:
    """The first seed of each trial with `steps` steps of small batches, without those of NOT_QUICK."""
    chosen = []
    for trial in trials:
        if trial.name not in NOT_QUICK and not trial.seed:
            flags = (*trial.flags, "--data.batch", str(QUICK_BATCH))
            if trial.family == "vqvae":
                flags += ("--model.quantizer.start_step", str(QUICK_START))
            chosen.append(replace(trial, flags=flags, steps=steps))
    return chosen
