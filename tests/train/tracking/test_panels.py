"""docs/tracking.md lists every logged name, and no others."""

import re

import pytest
from wandb_reader import logged

from tests.train.conftest import ROOT, flags, points, start

DOCUMENT = (ROOT / "docs" / "tracking.md").read_text()
FOUND = re.findall(r"`([^`]+)`", "".join(re.findall(r"^\| (`[^|]+)\|", DOCUMENT, re.MULTILINE)))
# Another table is about variables of W&B.
NAMES = [name for name in FOUND if not name.startswith("WANDB_")]
# The axis and the time of each line; names that W&B adds begin with an underscore.
AXIS = {"step", "time", "global_step", "crc32"}
# Runs on GPUs alone have them.
OF_GPUS = {"perf/mfu", "perf/gpu_memory_gb", "perf/gpu_hours"}
# Runs of priors have them, see tests/train/training/test_prior_run.py.
OF_PRIORS = {"loss/prior", "valid/loss", "valid/bits_per_second", "model/bits_per_second", "model/explained"}
OF_PRIORS |= {"generated/audio", "generated/spectrograms"}
# Runs on several data sets have them, see tests/train/training/test_data_sets.py.
OF_SETS = {"data/epochs_SET", "valid/si_sdr_SET", "valid/stft_SET", "valid/mel_SET"}
OF_STEREO = {f"valid/{channel}_{name}" for channel in ("mid", "side") for name in ("si_sdr", "mel", "level")}
# It needs longer chunks.
OF_CHUNKS = {"valid/zimtohrli"}


def pattern(name: str) -> re.Pattern:
    return re.compile(re.escape(name).replace("_N", r"_\d+"))


@pytest.mark.slow(area="wandb")
def test_the_list_of_panels_is_complete(data_dir, tmp_path):
    runs = {family: tmp_path / family for family in ("vae", "hvae", "vqvae")}
    # Saving every 3 steps: perf/save_stall.
    more = {"vae": ["--model.learned_variance", "true", "--weights.likelihood", "1", "--checkpoint.best_by", "frechet"]}
    more["vae"] += ["--adversarial.start", "4", "--adversarial.windows", "[256,128]", "--adversarial.filters", "4"]
    more["vae"] += ["--adversarial.lead", "1"]
    begun = [
        start(flags(family, data_dir, run, "--tracking.wandb", "offline", *more.get(family, ())))
        for family, run in runs.items()
    ]
    try:
        for process in begun:
            _, err = process.communicate(timeout=1000)
            assert process.returncode == 0, err
    finally:
        for process in begun:
            process.kill()
    seen = set()
    for run in runs.values():
        rows = points(run)
        items = logged(run)
        seen |= {name for row in rows for name in row}
        sent = {name.partition(".")[0] for item in items for name in item if not name.startswith("_")}
        assert {name for row in rows for name in row} - AXIS <= sent
        seen |= sent
    seen -= AXIS
    assert len(NAMES) > 30
    patterns = {name: pattern(name) for name in NAMES}
    assert not {name for name in seen if not any(one.fullmatch(name) for one in patterns.values())}, "not documented"
    never = {name for name, one in patterns.items() if not any(map(one.fullmatch, seen))}
    assert never == OF_GPUS | OF_CHUNKS | OF_PRIORS | OF_SETS | OF_STEREO, "never logged"
