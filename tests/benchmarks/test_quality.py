"""The claims about quality: their arithmetic, the trials behind them, and one trial for real."""

import contextlib
import dataclasses
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given
from hypothesis import strategies as st

import benchmarks.trials.running
from benchmarks.quality import claims
from benchmarks.quality.chunk_boundaries import errors_at_joints
from benchmarks.quality.command import findings_of
from benchmarks.quality.plan import SEEDS, TRIALS, shortened
from benchmarks.quality.rate_limit import through_ideal_code, water_level
from benchmarks.quality.tables import markdown
from benchmarks.trials.running import run_all
from benchmarks.trials.trial import Result, Trial, carry_out, command
from benchmarks.variants.multiband import Multiband
from shards.building.build import build
from train.cli.parser import parse

POINTS = [{"step": step, "loss/commitment": 1.0, "model/perplexity": 100.0, "time": float(step)} for step in range(200)]


def result(
    si_sdr: float = 10.0,
    latents: list | None = None,
    levels: list | None = None,
    points=POINTS,
    heard: float | None = 3.9,
) -> Result:
    measures = {"si_sdr": si_sdr, "stft": 1.0, "mel": 1.0, "mse": 0.1, "cosine": 0.9}
    opus = [
        {"kind": "opus", "kbit_per_second": 12.0, "zimtohrli": 3.3},
        {"kind": "opus", "kbit_per_second": 27.0, "zimtohrli": 4.5},
    ]
    summary = {
        "passages": {"rows": [{"kind": "file", "kbit_per_second": 18.0, "zimtohrli": heard}, *opus]},
        "reconstruction": measures,
        "floors": {"silence": {**measures, "si_sdr": -50.0}},
        "latents": latents or [{"active_units": 1.0}],
        "levels": levels or [],
        "recordings": [{"path": "music/a.ogg", "chunks": 3, **measures}],
    }
    return Result({}, 200, 60.0, 1_000_000, summary, points, Path("."))


def levels_of(*si_sdr: float) -> list[dict]:
    """As reports have them: what is left without the finest levels, and without the coarsest."""
    count = len(si_sdr)
    fine = [{"known": list(range(1 + i, count + 1)), "si_sdr": -40.0} for i in range(count)]
    return [{"known": list(range(count + 1)), "si_sdr": 10.0}, *fine] + [
        {"known": list(range(count - i)), "si_sdr": value} for i, value in enumerate(si_sdr)
    ]


def sound() -> dict[str, Result]:
    """Results that bear out every claim."""
    codes = [{"perplexity": 800.0, "codes_used": 0.99}]
    levels = levels_of(9.0, 8.0, 7.0)
    results = {}
    for trial in TRIALS:
        found = result(0.0 if trial.name.startswith("study") else 10.0, codes if "codes" in trial.name else None)
        results[trial.name] = found
        found.summary["levels"] = levels
    return results


def test_what_is_sound_holds():
    found = [claim(sound(), full) for claim, full, _ in claims.CLAIMS]
    assert all(finding.holds for finding in found), found
    assert len({finding.name for finding in found}) == len(found)


@pytest.mark.parametrize(
    ("claim", "trial", "worse"),
    [
        ("beats the pooled VAE", "vqvae", result(7.9)),
        ("beats the study's family", "hvae", result(1.0)),
        ("near its ceiling", "vae-ceiling", result(12.1)),
        ("files beside Opus", "hvae", result(heard=3.79)),
        ("codes near the limit of their rate", "vqvae", result(8.9)),
        ("no posterior collapse", "hvae-posterior-2", result(latents=[{"active_units": 1.0}, {"active_units": 0.4}])),
        ("every level earns its place", "hvae-posterior-1", result(levels=levels_of(9.0, 7.0, 7.5))),
        ("codebooks in use", "codes-1", result(latents=[{"perplexity": 600.0, "codes_used": 0.99}])),
        ("codebooks in use", "codes-1", result(latents=[{"perplexity": 800.0, "codes_used": 0.9}])),
        (
            "a stable VQ loss",
            "fast-adaptive-2",
            result(points=[*POINTS[:150], {**POINTS[150], "loss/commitment": 4.0}]),
        ),
        (
            "the input's level does not matter",
            "level-adaptive-10",
            result(points=[{**p, "model/perplexity": 50.0} for p in POINTS]),
        ),
    ],
)
def test_each_claim_can_fail(claim, trial, worse):
    found = {f.name: f for f in (check({**sound(), trial: worse}, full) for check, full, _ in claims.CLAIMS)}
    assert not found[claim].holds


def test_files_without_a_measure_bear_out_no_claim():
    found = claims.beside_opus({**sound(), "hvae": result(heard=None)}, 0.1)
    assert not found.holds
    assert "hvae: no Zimtohrli" in found.figures


def test_the_short_form_has_every_claim():
    names = {trial.name for trial in shortened(TRIALS)}
    short = {name: dataclasses.replace(value, trial={"steps": 150}) for name, value in sound().items() if name in names}
    assert all(claim(short, easy).holds for claim, _, easy in claims.CLAIMS)


NEEDED = [
    "vae-codec",
    "vqvae",
    "hvae-ceiling",
    "vae-ceiling",
    "study-hvae",
    "study-pooled-vae",
    "hvae-posterior-1",
    "hvae-plain",
]
NEEDED += ["codes-1", "codes-rival-tuned", "fast-adaptive-2", "fast-fixed-0", "level-adaptive-1", "level-adaptive-10"]


@pytest.mark.parametrize("name", NEEDED)
def test_a_claim_needs_all_its_trials(name):
    results = sound()
    del results[name]
    assert f"'{name}' was skipped" in {f.figures for f in findings_of(results, quick=False) if not f.holds}


def test_nothing_but_the_families_bears_out_hardly_anything():
    found = findings_of({name: sound()[name] for name in ("vae", "hvae", "vqvae")}, quick=False)
    assert [finding.name for finding in found if finding.holds] == ["no seams"]


def test_the_trials_differ_and_have_every_seed():
    assert len({trial.name for trial in TRIALS}) == len(TRIALS)
    for name in ("vae-posterior", "hvae-posterior", "codes", "fast-adaptive", "fast-fixed"):
        assert [trial.seed for trial in TRIALS if trial.name.rpartition("-")[0] == name and trial.seed in SEEDS] == [
            0,
            1,
            2,
        ]


def test_models_alike_are_trained_once_in_the_plans_order(tmp_path, monkeypatch):
    trained = []

    def carry_out(trial, *_):
        trained.append(trial.name)
        return dataclasses.replace(result(), trial={"name": trial.name})

    monkeypatch.setattr(benchmarks.trials.running, "carry_out", carry_out)
    trials = shortened(TRIALS)
    results = run_all(trials, tmp_path, tmp_path, 1, 1.0, lambda line: None)
    assert list(results) == [trial.name for trial in trials]
    assert results["level-adaptive-1"] is results["vqvae"]
    assert results["vae-posterior-0"] is results["vae"]
    assert "level-adaptive-1" not in trained
    assert trained == [trial.name for trial in trials if trial.name in trained]
    assert len({trial.model_key for trial in TRIALS}) == len(TRIALS)  # in full they differ in time


@pytest.mark.parametrize("trial", [t for t in TRIALS if t.seed == 0], ids=lambda trial: trial.name)
def test_training_takes_the_flags_of_each_trial(trial, tmp_path):
    words = command(trial, tmp_path, tmp_path / "run", 500)
    family, settings = parse(words[2:] if trial.alteration else words[1:])
    assert family == trial.family
    assert settings.seed == trial.seed


@given(st.integers(100, 400), st.floats(0.1, 10))
def test_jumps_are_relative_to_what_came_before(count, scale):
    points = [{"step": step, "loss/commitment": scale * (1 + step / 1000)} for step in range(count)]
    calm = dataclasses.replace(result(points=points), steps=count)
    assert 1 < claims.largest_jump(calm) < 1.2
    points[-1] = {**points[-1], "loss/commitment": 5 * points[-2]["loss/commitment"]}
    assert claims.largest_jump(dataclasses.replace(calm, points=points)) > 4.5


class Echo(torch.nn.Module):
    """Gives back chunks of 1,000 samples, with an error where it is told."""

    samples, level, audio_channels, device = 1000, "peak", 1, torch.device("cpu")

    def __init__(self, where: slice) -> None:
        super().__init__()
        self.parameter = torch.nn.Parameter(torch.zeros(1))
        self.where = where

    def decoding_at(self, starts) -> contextlib.AbstractContextManager:
        return contextlib.nullcontext()

    def reconstruct(self, chunks: torch.Tensor) -> torch.Tensor:
        harmed = chunks + 0.01
        harmed[..., self.where] += 0.5
        return harmed


@pytest.mark.parametrize(("where", "more"), [(slice(0, 250), True), (slice(400, 600), False)])
def test_errors_at_joints_are_told_apart(where, more):
    at, away = errors_at_joints(Echo(where), np.zeros(8000, np.float32))
    assert (at > 2 * away) == more
    assert (at < away) != more


@pytest.fixture(autouse=True)
def joints(monkeypatch) -> list[float]:
    """What the models of made-up results do at joints."""
    ratio = [0.9]
    monkeypatch.setattr(claims, "error_at_joints", lambda run: ratio[0])
    monkeypatch.setattr(claims, "bits_per_frame", lambda run: 72.0)
    monkeypatch.setattr(claims, "si_sdr_at_rate", lambda run, bits: 10.0)
    return ratio


def test_seams_are_told(joints):
    joints[0] = 1.1
    assert [f.name for f in findings_of(sound(), quick=False) if not f.holds] == ["no seams"]


def test_the_table_has_a_line_a_model():
    text = markdown({"vae": result(), "hvae": result(12.3)})
    assert len(text.splitlines()) == 5
    assert "12.3" in text


@pytest.mark.slow(area="league")
def test_a_trial_for_real(tmp_path, monkeypatch):
    """Trained, measured, and not done again."""
    monkeypatch.setattr("benchmarks.trials.trial.LEAST_STEPS", 12)
    rng = np.random.default_rng(0)
    (tmp_path / "audio").mkdir()
    for name in range(4):
        soundfile.write(tmp_path / "audio" / f"{name}.wav", 0.1 * rng.standard_normal(3 * 22050), 22050)
    data_dir = tmp_path / "data"
    build(tmp_path / "audio", data_dir, valid=0.25)
    trial = Trial("tiny", "vqvae", "vqvae_tiny", ("--data.batch", "4"), seconds=1.0, alteration="gain-10")
    trial = dataclasses.replace(trial, flags=(*trial.flags, "--model.quantizer.start_step", "8"))
    found = carry_out(trial, data_dir, tmp_path, [0], lambda _: 0.1)
    assert found.points[-1]["step"] == found.steps
    assert found.parameters > 100_000
    again = carry_out(trial, data_dir, tmp_path, [0], lambda _: 1 / 0)
    assert again == found


def test_the_filter_bank_gives_back_what_it_took_apart():
    audio = torch.randn(2, 1, 2940, generator=torch.Generator().manual_seed(0))
    bank = Multiband(2940, 14)
    bands = bank.represent(audio)
    assert bands.shape == (2, 14, 210)
    inner = slice(300, -300)  # the ends have half of their filters
    error = (bank.render(bands) - audio)[..., inner].square().mean() / audio[..., inner].square().mean()
    assert error < 1e-5
    tone = torch.sin(2 * torch.pi * 5.5 / 28 * torch.arange(2940)).view(1, 1, -1)  # the middle of the sixth of 14 bands
    power = bank.represent(tone).square().mean((0, 2))
    assert power[5] > 0.95 * power.sum()


@given(st.lists(st.floats(1e-6, 1e3), min_size=1, max_size=40), st.floats(0.1, 200.0))
def test_an_ideal_code_spends_its_bits(variances, bits):
    variances = torch.tensor(variances, dtype=torch.float64)
    level = water_level(variances, bits)
    assert level < variances.max()
    spent = 0.5 * (variances / level).log2().clamp_min(0).sum()
    assert spent.item() == pytest.approx(bits, rel=1e-6)


def test_an_ideal_code_leaves_the_distortion_of_its_rate():
    generator = torch.Generator().manual_seed(0)
    vectors = torch.randn(20000, 2, generator=generator) @ torch.tensor([[2.0, 1.0], [0.0, 0.5]]) + 3
    for bits in (0.5, 2.0, 6.0):
        variances = torch.linalg.eigvalsh(torch.cov(vectors.T))
        expected = variances.clamp_max(water_level(variances, bits)).sum()
        error = (through_ideal_code(vectors, bits, generator) - vectors).square().sum(1).mean()
        assert error == pytest.approx(expected.item(), rel=0.05)
