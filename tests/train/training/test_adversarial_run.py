"""The adversarial phase by the real command: stopped anywhere, on several processes, and with wrong settings."""

import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import audiovae
from tests.train.conftest import NO_LEVELS, flags, flip_a_bit, kill_at_step, points, train
from tests.train.training.test_run import assert_same_state, last_checkpoint
from train.adversarial.discriminator_file import DISCRIMINATOR_FILE, read_discriminator
from train.runs.checkpoint import all_checkpoints

START = 4
# The VQ-VAE's codebooks start at step 2.
PHASE = [
    *("--adversarial.start", str(START), "--adversarial.windows", "[256,64]", "--adversarial.filters", "2"),
    *("--adversarial.lead", "1", "--adversarial.ramp", "2", "--adversarial.every", "1"),
]


def of_phase(family: str, data: Path, run: Path, *more: str) -> list[str]:
    return flags(family, data, run, *PHASE, *more)


def assert_same_players(one: Path, other: Path) -> None:
    """The last states are the same, bit for bit, and have a discriminator."""
    assert (last_checkpoint(one) / DISCRIMINATOR_FILE).exists()
    assert (last_checkpoint(one) / "discriminator_optimizer.safetensors").exists()
    assert_same_state(one, other)


@pytest.fixture(scope="session")
def straight_phase(once, data_dir):
    """run(family) -> an uninterrupted run with a phase; read it only."""

    def run(family: str) -> Path:
        return once(f"phase-{family}", lambda at: train(of_phase(family, data_dir, at / family))) / family

    return run


@pytest.mark.parametrize(
    "family", ["vae", *(pytest.param(family, marks=pytest.mark.slow(area="pairs")) for family in ("hvae", "vqvae"))]
)
def test_stopped_before_at_and_in_the_phase_equals_no_interruption(family, data_dir, straight_phase, tmp_path):
    straight = straight_phase(family)
    run = tmp_path / family
    for stop in (START - 1, START, START + 2):
        said = train(of_phase(family, data_dir, run, "--stop_at", str(stop)), code=85)
        assert ("the adversarial phase has begun" in said) == (stop > START)
    train(of_phase(family, data_dir, run))
    assert_same_players(run, straight)
    rows = points(run)
    assert [row["step"] for row in rows] == list(range(9))
    # The adversarial terms follow the ramp; the discriminator leads for one step.
    assert "loss/adversarial" not in rows[START] | rows[START + 1]
    assert [row.get("weight/adversarial") for row in rows[START + 1 :]] == [None, 0.0, 0.01, 0.02]
    assert all("adversarial/discriminator_loss" in row for row in rows[START + 1 :])
    assert not any("adversarial/discriminator_loss" in row for row in rows[: START + 1])


@pytest.mark.parametrize("family", ["vae", "hvae", "vqvae"])
def test_latents_and_codes_stay_as_they_were_before_the_phase(family, straight_phase):
    """Those of the finished model, which has the averaged weights, and those of the weights that train."""
    run = straight_phase(family)
    checkpoints = [run / "checkpoints" / f"step-{step:08}" for step in (START, 8)]
    before, after = audiovae.load(checkpoints[0]), audiovae.load(run / "model")
    audio = torch.randn(2, 1, before.samples, generator=torch.Generator().manual_seed(0)) / 4
    with torch.no_grad():
        for one, other in zip(*([*model.encode(audio)] for model in (before, after)), strict=True):
            assert torch.equal(one, other)
    for file in ("model.safetensors", "training.safetensors"):
        # Where weights stop training, they become their averages.
        one, other = load_file(checkpoints[0] / "model.safetensors"), load_file(checkpoints[1] / file)
        changed = {name for name in one if not torch.equal(one[name], other[name])} - {*after.training_only}
        changed -= {"balance.factors", "balance.running"}  # of the KL, which has no gradient here
        assert changed
        assert all(name.startswith(tuple(f"{part}." for part in after.synthesis)) for name in changed), changed


def test_two_processes_in_small_micro_batches_equal_one(data_dir, straight_phase, tmp_path):
    run = tmp_path / "vqvae"
    train(of_phase("vqvae", data_dir, run, "--data.microbatch", "2"), processes=2)
    for a, b in zip(points(straight_phase("vqvae")), points(run), strict=True):
        assert a.keys() == b.keys()
        for name in a:
            if name.startswith(("loss/", "valid/", "adversarial/", "weight/")):
                assert b[name] == pytest.approx(a[name], rel=5e-3, abs=1e-4), (a["step"], name)


@pytest.mark.slow(area="faults")
def test_a_killed_phase_resumes_from_its_newest_intact_checkpoint(data_dir, tmp_path):
    """The newest checkpoint's discriminator is damaged; an older checkpoint is used, and nothing is lost."""
    straight, run = tmp_path / "straight", tmp_path / "killed"
    longer = ["--optim.steps", "40"]
    train(of_phase("vae", data_dir, straight, *longer))
    kill_at_step(15, of_phase("vae", data_dir, run, *longer), run)
    flip_a_bit(last_checkpoint(run) / DISCRIMINATOR_FILE)
    said = train(of_phase("vae", data_dir, run, *longer))
    assert "renamed to damaged-" in said
    assert_same_players(run, straight)
    # The checkpoint of the phase's start stays, though checkpoint.keep is 3.
    assert (run / "checkpoints" / f"step-{START:08}").exists()


def test_the_finished_model_holds_the_discriminator_of_the_last_step(straight_phase):
    run = straight_phase("vae")
    shipped = read_discriminator(run / "model")
    last = load_file(run / "checkpoints" / "step-00000008" / DISCRIMINATOR_FILE)
    assert shipped.keys() == last.keys()
    assert all(torch.equal(shipped[name], last[name]) for name in last)
    state = json.loads((run / "checkpoints" / "step-00000008" / "state.json").read_text())
    assert state["discriminator_updates"] == 8 - START
    first = json.loads((run / "checkpoints" / f"step-{START:08}" / "manifest.json").read_text())
    assert not {DISCRIMINATOR_FILE} & {*first["files"]}


def test_other_settings_of_the_discriminator_are_refused_in_the_phase(data_dir, straight_phase, tmp_path):
    run = tmp_path / "vae"
    shutil.copytree(straight_phase("vae"), run)
    longer = ["--optim.steps", "12", "--allow_changes", "true", "--relocated", "copied"]
    for more, complaint in (
        (["--adversarial.filters", "3"], "pass the --adversarial.windows, --adversarial.periods"),
        (["--adversarial.start", "0"], "pass the --adversarial.start that the run had"),
        (["--adversarial.start", "10"], "pass the --adversarial.start that the run had"),
        (["--adversarial.start", "8"], "pass the --adversarial.start that the run had"),
        (["--adversarial.start", "2"], "the adversarial phase cannot begin at step 2, as the run is at step 4"),
    ):
        if more[-1] == "2":  # the state before the phase alone is left
            for path in all_checkpoints(run / "checkpoints")[:-1]:
                shutil.rmtree(path)
        said = train([*of_phase("vae", data_dir, run), *longer, *more], code=1)
        errors = [line for line in said.splitlines() if line.startswith("error:")]
        assert len(errors) == 1, said
        assert complaint in errors[0]


def test_a_new_run_takes_the_discriminator_along(data_dir, straight_phase, tmp_path):
    """Its phase begins with those weights, also where the source is gone by then and in a resumed run."""
    source, run, straight = tmp_path / "source", tmp_path / "run", tmp_path / "straight"
    shutil.copytree(straight_phase("vae") / "model", source)
    more = ["--start_from", str(source), "--adversarial.rate", "1e-9"]
    said = train(of_phase("vae", data_dir, run, *more, "--stop_at", "2"), code=85)
    assert "taken for the adversarial phase: discriminator (" in said
    train(of_phase("vae", data_dir, straight, *more))
    shipped = read_discriminator(source)
    shutil.rmtree(source)
    kept = run / "start" / DISCRIMINATOR_FILE
    content = kept.read_bytes()
    kept.unlink()
    said = train(of_phase("vae", data_dir, run, *more), code=1)
    assert "start/discriminator.safetensors: it is not the discriminator that the run started from; restore it" in said
    kept.write_bytes(content)
    train(of_phase("vae", data_dir, run, *more))
    assert_same_players(run, straight)
    found = read_discriminator(run / "model")
    assert all(torch.allclose(found[name], shipped[name], atol=1e-6) for name in shipped)


def test_a_discriminator_that_does_not_fit_is_named(data_dir, straight_phase, tmp_path):
    more = ["--start_from", str(straight_phase("vae")), "--adversarial.filters", "3", "--stop_at", "1"]
    said = train(of_phase("vae", data_dir, tmp_path / "run", *more), code=85)
    assert "not taken: its discriminator, which has other adversarial.windows, .periods or .filters" in said
    more = ["--start_from", str(straight_phase("vae")), "--start_from.only", "[encoder]", "--stop_at", "1"]
    said = train(of_phase("vae", data_dir, tmp_path / "parts", *more), code=85)
    assert "not taken: its discriminator, as --start_from.only names parts" in said


def test_codebooks_that_the_phase_would_keep_from_starting_are_named(data_dir, tmp_path):
    train(of_phase("vqvae", data_dir, tmp_path / "source", "--stop_at", "1"), code=85)
    more = ["--start_from", str(tmp_path / "source/checkpoints/step-00000001"), "--adversarial.start", "1"]
    said = train(of_phase("vqvae", data_dir, tmp_path / "run", *more), code=1)
    assert "adversarial.start is step 1, but the codebooks start after model.quantizer.start_step = 2, as the" in said


@pytest.mark.parametrize(
    ("family", "more", "complaint"),
    [
        ("vae", ["--adversarial.rate", "inf"], "adversarial.rate is inf: it must be finite"),
        ("vae", ["--adversarial.weight", "inf"], "adversarial.weight is inf: it must be finite"),
        ("vae", ["--adversarial.start", "8"], "adversarial.start is 8 and optim.steps 8: raise optim.steps or lower"),
        ("vae", ["--adversarial.start", "1.5"], "adversarial.start is 1.5: a whole number of steps, or a share"),
        ("vae", ["--adversarial.windows", "[2048]"], "needs chunks of 12,288 samples, and these have 2,205"),
        ("vae", ["--adversarial.windows", "[256,256]"], "adversarial.windows names one value twice: 256, 256"),
        ("vae", ["--adversarial.loss", "wasserstein"], "hinge"),
        ("vqvae", ["--adversarial.start", "2"], "but the codebooks start after model.quantizer.start_step = 2"),
        ("vae", ["--model.representation.kind", "mel", *NO_LEVELS], "adversarial.start needs a model of waveforms"),
        ("vae", ["--optim.freeze", "[decoder]"], "leave nothing to train: pass --adversarial.freeze false"),
    ],
)
def test_wrong_settings_are_one_line(family, more, complaint, data_dir, tmp_path):
    said = train(of_phase(family, data_dir, tmp_path / "run", *more), code=1)
    assert complaint in re.sub(r"\s+", " ", said)
    assert "Traceback" not in said
    assert not list(tmp_path.glob("run/checkpoints/step-*"))
