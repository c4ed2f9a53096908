"""Properties of pure functions: schedules, objective, settings and measures."""

import math
import re
from pathlib import Path

import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st

from shards.files import read_lines
from train.cli.parser import parse
from train.config import flat, is_free, with_defaults
from train.errors import TrainError
from train.evaluation.measuring.metrics import MEASURED, SI_SDR_FLOOR_DB, means, measure, si_sdr, sums_and_counts
from train.optim.objective import HVAEWeights, Objective, PriorWeights, VAEWeights, VQVAEWeights, named
from train.optim.schedules import Ramp, ema_decay
from train.runs.settings_history import changed

CONFIGS = sorted((Path(__file__).parents[2] / "train" / "configs").rglob("*.yaml"))


def test_the_average_forgets_its_start():
    assert ema_decay(0, 0.999) == 0.1
    assert ema_decay(10**6, 0.999) == 0.999


def test_terms_and_weights_must_match():
    terms = {"mse", "stft", "kl"}
    with pytest.raises(ValueError, match=r"no weight for the loss term 'anchor'"):
        Objective(VAEWeights(), Ramp(), terms | {"anchor"})
    with pytest.raises(ValueError, match=r"weights.kl_0 belongs to no loss term"):
        Objective(HVAEWeights(kl=[1.0]), Ramp(), {"mse", "stft"})
    with pytest.raises(ValueError, match=r"weights.likelihood belongs to no loss term"):
        Objective(VAEWeights(likelihood=1.0), Ramp(), terms)
    assert "likelihood" not in Objective(VAEWeights(), Ramp(), terms).weights_at(0)
    assert Objective(VAEWeights(likelihood=1.0), Ramp(), terms | {"likelihood"}).weights_at(0)["likelihood"] == 1
    objective = Objective(VAEWeights(mse=2.0, stft=3.0, kl=4.0), Ramp(0, 10), terms)
    values = {"mse": torch.ones(2), "stft": torch.ones(2), "kl": torch.ones(2)}
    assert objective(values, objective.weights_at(0)).tolist() == [5.0, 5.0]
    assert objective(values, objective.weights_at(10)).tolist() == [9.0, 9.0]
    with pytest.raises(ValueError, match="do not match"):
        objective({"mse": torch.ones(2)}, objective.weights_at(0))


@pytest.mark.parametrize("weights", [VAEWeights, HVAEWeights, VQVAEWeights, PriorWeights])
def test_weights_are_finite_and_not_negative(weights):
    name = next(iter(vars(weights())))
    for value in -1.0, math.inf, math.nan:
        with pytest.raises(ValueError, match=f"weights.{name} is {value}: it must be finite, and 0 or above"):
            weights(**{name: value})
    with pytest.raises(ValueError, match=r"weights\.kl_1 is -2"):
        HVAEWeights(kl=[0.0, -2.0])
    with pytest.raises(ValueError, match="all weights are 0"):
        weights(**{name: [0.0] if isinstance(value, list) else 0.0 for name, value in vars(weights()).items()})


def test_a_list_of_weights_is_named_by_level():
    assert named(HVAEWeights(kl=[1.0, 2.0]))["kl_1"] == 2.0


@pytest.mark.parametrize("preset", CONFIGS, ids=lambda path: path.stem)
def test_presets_are_short_and_valid(preset):
    family = preset.stem.split("_")[-1 if preset.parent.name == "study" else 0]
    _, config = parse([family, "--config", str(preset), "--data", "d", "--run-dir", "r"])
    assert config.data.path == "d"
    given_keys = flat(yaml.safe_load(preset.read_text()))
    assert given_keys
    assert {key: flat(config)[key] for key in given_keys} == given_keys
    assert len(preset.read_text().splitlines()) <= 15


def test_flags_override_yaml_and_keep_the_rest(tmp_path):
    (tmp_path / "my.yaml").write_text("optim: {lr: 5.0e-4, steps: 7}\nweights: {kl: 0.5}\n")
    words = ["vae", "--config", str(tmp_path / "my.yaml"), "--data=d", "--run_dir", "r", "--optim.lr", "1e-2"]
    _, config = parse(words)
    assert (config.optim.lr, config.optim.steps, config.weights.kl) == (1e-2, 7, 0.5)
    assert config.weights.mse == VAEWeights().mse


IMPOSSIBLE = """
    optim.betas=[1.5,0.9] optim.lr=inf optim.explode=0.5 kl_warmup.rising=0 seed=99999999999999999999
    optim.decay_share=2
    data.batch=0 data.microbatch=-1 optim.steps=0 optim.lr=-1 optim.lr=nan optim.final_lr=2 tracking.every=0 seed=-1
    checkpoint.keep=0 kl_warmup.steps=-1 model.latent=0 model.trunk.kernel=4 model.trunk.channels=[0,0,0]
"""


@pytest.mark.parametrize("flag", IMPOSSIBLE.split())
def test_impossible_values_are_refused(flag):
    with pytest.raises(TrainError, match=re.search(r"(\w+)=", flag)[1]):
        parse(["vae", "--data", "d", "--run-dir", "r", f"--{flag}"])


def test_codebooks_must_start_before_the_run_ends():
    with pytest.raises(TrainError, match=r"start_step = 200"):
        parse(["vqvae", "--data", "d", "--run-dir", "r", "--optim.steps", "200"])


def test_a_learned_variance_needs_its_weight():
    words = ["vae", "--data", "d", "--run-dir", "r", "--model.learned_variance", "true"]
    with pytest.raises(TrainError, match=r"weights.likelihood"):
        parse(words)
    assert parse([*words, "--weights.likelihood", "1"])[1].model.learned_variance


def test_differences_leave_out_what_does_not_matter():
    _, one = parse(["vae", "--data", "d", "--run-dir", "r"])
    _, two = parse(["vae", "--data", "e", "--run-dir", "s", "--tracking.every", "3", "--seed", "4"])
    bound = {key: values for key, values in changed(flat(one), flat(two)).items() if not is_free(key)}
    assert bound == {"seed": (0, 4)}
    older = {key: value for key, value in flat(one).items() if key != "kl_warmup.shape"}
    filled = with_defaults(older, "vae", flat(one))
    assert changed(filled, flat(one)) == {}, "a setting that came later is as it was"
    assert changed(filled, {**flat(one), "kl_warmup.shape": "log"}) == {"kl_warmup.shape": ("linear", "log")}


def test_measures_of_known_signals():
    generator = torch.Generator().manual_seed(0)
    target = torch.randn(5, 1, 4000, generator=generator) * 0.1
    noise = torch.randn(5, 1, 4000, generator=generator) * 0.01
    # Noise orthogonal to the target and 20 dB below it, for any gain of the output.
    noise -= (noise * target).sum(-1, keepdim=True) / target.square().sum(-1, keepdim=True) * target
    noise *= 0.1 * target.norm(dim=-1, keepdim=True) / noise.norm(dim=-1, keepdim=True)
    values = measure(0.5 * (target + noise), target, 22050)
    assert values["si_sdr"].tolist() == pytest.approx([20.0] * 5, abs=0.1)
    exact = measure(target, target, 22050)
    assert exact["mse"].max() == 0
    assert exact["stft"].max() < 1e-6
    assert exact["mel"].max() == 0
    # Half the level is ln 2 in every band.
    assert measure(0.5 * target, target, 22050)["mel"].tolist() == pytest.approx([0.6931] * 5, abs=1e-3)
    assert set(exact) == set(MEASURED)
    assert exact["cosine"].tolist() == pytest.approx([1.0] * 5)


@given(
    seed=st.integers(0, 2**31),
    length=st.integers(2, 3000),
    gain=st.sampled_from([0.0, 1e-4, 0.3, -2.0]),
    noise=st.sampled_from([0.0, 1e-6, 0.1, 10.0]),
    level=st.sampled_from([0.0, 1e-4, 0.1, 1.0]),
    offset=st.sampled_from([0.0, 0.5]),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
def test_si_sdr_is_that_of_torchmetrics(seed, length, gain, noise, level, offset, dtype):
    """Bit for bit, with silence on either side, no error at all, constant offsets and opposite polarity."""
    # Imported here: it takes seconds, which each worker of the tests would pay.
    from torchmetrics.functional.audio import scale_invariant_signal_distortion_ratio

    generator = torch.Generator().manual_seed(seed)
    target = level * torch.randn(3, length, generator=generator, dtype=dtype) + offset
    output = gain * target + noise * torch.randn(3, length, generator=generator, dtype=dtype)
    found = si_sdr(output, target)
    assert torch.equal(found, scale_invariant_signal_distortion_ratio(output, target, zero_mean=True))
    assert found.isfinite().all()


def test_silence_is_counted_apart():
    target = torch.stack([torch.zeros(1, 1000), torch.ones(1, 1000).cumsum(-1) / 1000])
    values = measure(torch.zeros(2, 1, 1000), target, 22050)
    assert values["silent"].tolist() == [1, 0]
    assert values["si_sdr"][0].isnan()
    assert values["si_sdr"][1] == SI_SDR_FLOOR_DB
    result = means(sums_and_counts(values))
    assert result["si_sdr"] == SI_SDR_FLOOR_DB
    assert result["silent"] == 0.5


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_outputs_that_are_not_finite_are_counted_apart(value):
    target = torch.randn(3, 1, 2000, generator=torch.Generator().manual_seed(0))
    output = 0.9 * target
    output[1, 0, 7] = value
    values = measure(output, target, 22050)
    assert values["not_finite"].tolist() == [0, 1, 0]
    assert all(values[name].isnan().tolist() == [False, True, False] for name in ("mse", "si_sdr", "stft", "mel"))
    result = means(sums_and_counts(values))
    assert result["mse"] == pytest.approx(0.01 * target[[0, 2]].square().mean().item(), rel=1e-4)
    assert result["not_finite"] == pytest.approx(1 / 3)


def test_damaged_lines_are_skipped(tmp_path):
    file = tmp_path / "metrics.jsonl"
    file.write_bytes(b'{"step": 1}\n\xff\xfe\n3\n[1]\n{"step": 2}\n{"st')
    assert read_lines(file) == [{"step": 1}, {"step": 2}]
