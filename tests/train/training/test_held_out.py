"""What evaluations during training decide: scores of the adversarial phase, the best checkpoint, an early end."""

import json
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import audiovae
from audiovae import Autoencoder
from shards import Split
from shards.building.build import build
from tests.train.conftest import RATE, SAMPLES, flags, points, start, train
from train.adversarial.discriminator import Discriminator, make_discriminator
from train.adversarial.discriminator_file import read_discriminator
from train.adversarial.losses import feature_distance, mean_score
from train.adversarial.settings import AdversarialConfig
from train.evaluation.measuring.chunks import measure_chunks, reference_embeddings
from train.evaluation.measuring.frechet import frechet
from train.evaluation.measuring.heldout import to_audio
from train.parallel.engine import Engine
from train.runs.checkpoint import all_checkpoints, best_checkpoint
from train.training.held_out.extra import SCORES, heard, judged

START, EARLY, MORE = 3, 8, 20
PHASE = ["--adversarial.start", f"{START}", "--adversarial.windows", "[256,128]", "--adversarial.periods", "[2]"]
PHASE += ["--adversarial.filters", "4", "--adversarial.lead", "0", "--adversarial.ramp", "2"]
# Weights that never change have the same held-out values at each evaluation: 0, 2, 3 (start of the phase), 4, 6, 8.
STILL = ["--optim.lr", "1e-30", "--optim.ema", "0", "--optim.steps", f"{MORE}", "--tracking.evaluate_every", "2"]
UNTIL = ["--until", "mel:4"]
RANKED = ["--checkpoint.best_by", "frechet", "--checkpoint.every", "2", "--checkpoint.keep", "1"]
CHANGES = ["--allow_changes", "true"]
WHY = "mel has not improved for 4 steps"


def words(data: Path, run: Path, *more: str) -> list[str]:
    return flags("vae", data, run, *STILL, *PHASE, *RANKED, *UNTIL, *more)


def held_out_points(run: Path) -> dict[int, dict]:
    return {row["step"]: row for row in points(run) if "valid/mel" in row}


@pytest.fixture(scope="module")
def ended(data_dir, tmp_path_factory) -> tuple[Path, str]:
    """A run that ended early in its adversarial phase, and what it printed; tests may go on with copies of it only."""
    run = tmp_path_factory.mktemp("ended") / "run"
    return run, train(words(data_dir, run))


def test_a_run_without_progress_finishes_and_says_why(ended, data_dir):
    run, told = ended
    (line,) = [line for line in told.splitlines() if line.startswith("finished at step")]
    assert line.startswith(f"finished at step {EARLY}: {run / 'model'}; it ended early, as {WHY} (best ")
    assert line.endswith("at step 4)"), "the phase counts from its own first evaluation on"
    assert (run / "DONE").read_text().startswith(f"step {EARLY}: finished early: {WHY}")
    assert isinstance(audiovae.load(run / "model"), Autoencoder)
    assert [*held_out_points(run)] == [0, 2, START, 4, 6, EARLY]
    before = sorted(path.name for path in run.rglob("*"))
    for more in ([], ["--optim.steps", f"{MORE + 5}", *CHANGES]):
        again = train(words(data_dir, run, *more))
        assert f"finished already, early at step {EARLY}: {WHY}" in again
        assert "pass another --until with --allow_changes true" in again
    assert sorted(path.name for path in run.rglob("*")) == before
    status = train(["status", str(run)])
    assert f"finished, step {EARLY} of {MORE}" in status
    assert f"finished early: {WHY}" in status


def test_before_the_phase_a_run_ends_too(data_dir, tmp_path):
    run = tmp_path / "run"
    told = train(flags("vae", data_dir, run, *STILL, "--until", "cosine:3"))
    assert "cosine has not improved for 3 steps" in told
    assert (run / "DONE").read_text().startswith("step 4: ")


def test_a_run_that_was_stopped_ends_at_the_same_step_in_the_same_state(ended, data_dir, tmp_path):
    run = tmp_path / "run"
    for stop in (START, 7):  # at the start of the phase, and after the evaluation that counts
        train(words(data_dir, run, "--stop_at", f"{stop}"), code=85)
    train(words(data_dir, run))
    one, other = (all_checkpoints(path / "checkpoints")[0] for path in (ended[0], run))
    assert one.name == other.name == f"step-{EARLY:08d}"
    assert (one / "state.json").read_text() == (other / "state.json").read_text()
    for file in ("training.safetensors", "discriminator.safetensors"):
        first, second = load_file(one / file), load_file(other / file)
        assert first.keys() == second.keys()
        assert all(torch.equal(first[name], second[name]) for name in first), file
    same = [held_out_points(path) for path in (ended[0], run)]
    assert same[0].keys() == same[1].keys()
    for step, row in same[0].items():
        names = {name for name in row if name.startswith("valid/")}
        assert {name: row[name] for name in names} == {name: same[1][step][name] for name in names}, step
    # Killed after its last checkpoint, it only has to finish.
    steps = len(points(run))
    (run / "DONE").unlink()
    assert f"finished at step {EARLY}" in train(words(data_dir, run))
    assert len(points(run)) == steps
    # With another setting it goes on.
    train(words(data_dir, run, "--until", "mel:8", *CHANGES))
    assert (run / "DONE").read_text().startswith("step 12: finished early: mel has not improved for 8 steps")


@pytest.mark.slow(area="faults")
def test_a_stop_in_the_last_evaluation_leaves_the_end_to_the_next_attempt(ended, data_dir, tmp_path):
    run, mark = tmp_path / "run", tmp_path / "mark"
    known = {"SLOW_PHASE": "share", "SLOW_STEP": f"{EARLY}", "SLOW_MARK": f"{mark}"}
    process = start(words(data_dir, run), module="tests.train.slow_phases", **known)
    while not Path(f"{mark}0").exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    (run / "STOP").touch()
    _, err = process.communicate(timeout=1000)
    assert process.returncode == 85, err
    assert f"finished at step {EARLY}" in train(words(data_dir, run))
    one, other = (path / "checkpoints" / f"step-{EARLY:08d}" / "state.json" for path in (ended[0], run))
    assert one.read_text() == other.read_text()


def test_two_processes_end_at_the_same_step_with_the_same_scores(ended, data_dir, tmp_path):
    train(words(data_dir, tmp_path / "run"), processes=2)
    one, two = held_out_points(ended[0]), held_out_points(tmp_path / "run")
    assert one.keys() == two.keys()
    for step, row in one.items():
        names = {name for name in row if name.startswith("valid/")}
        assert names == {name for name in two[step] if name.startswith("valid/")}
        for name in names:
            # Adam multiplies the rounding of small gradients; test_arithmetic.py compares scores of the same weights.
            rel = 0.05 if name.removeprefix("valid/") in SCORES else 1e-4
            assert two[step][name] == pytest.approx(row[name], rel=rel, abs=1e-6), (step, name)


def test_scores_are_those_of_the_discriminator_and_the_averaged_weights(ended, data_dir):
    rows = held_out_points(ended[0])
    assert [step for step, row in rows.items() if "valid/real_score" in row] == [4, 6, EARLY]
    folder = all_checkpoints(ended[0] / "checkpoints")[0]
    discriminator = Discriminator(AdversarialConfig(windows=[256, 128], periods=[2], filters=4), SAMPLES)
    discriminator.load_state_dict(read_discriminator(folder))
    split, model = Split.open(data_dir, "valid"), audiovae.load(folder)
    audio = to_audio(split.read(np.arange(len(split))), torch.device("cpu"))
    with torch.no_grad():
        real, fake = discriminator(audio), discriminator(model.reconstruct(audio))
    expected = {
        "real_score": mean_score(real.scores).mean().item(),
        "fake_score": mean_score(fake.scores).mean().item(),
        "features": feature_distance(real.features, fake.features).mean().item(),
    }
    measured = rows[EARLY]
    assert {name: measured[f"valid/{name}"] for name in expected} == pytest.approx(expected, rel=1e-4)
    assert expected["real_score"] != pytest.approx(expected["fake_score"], rel=1e-4), "a swap would be seen"
    engine = Engine()
    chunks = measure_chunks(engine, split, torch.device("cpu"), model.reconstruct, "")
    distance = frechet(reference_embeddings(engine, split, torch.device("cpu")), chunks.columns["embedding"])
    assert measured["valid/frechet"] == pytest.approx(distance, rel=1e-4)
    state = json.loads((folder / "state.json").read_text())
    assert state["valid"] == {name: measured[f"valid/{name}"] for name in state["valid"]}
    assert {"si_sdr", "mel", "frechet"} <= state["valid"].keys()


def test_an_items_scores_do_not_depend_on_the_others():
    discriminator = make_discriminator(AdversarialConfig(windows=[256], filters=4), SAMPLES, 0)
    audio, output = torch.randn(2, 11, 1, SAMPLES, generator=torch.Generator().manual_seed(0))
    whole = judged(discriminator, audio, output)
    alone = judged(discriminator, audio[9:10], output[9:10])
    assert {name: values.shape for name, values in whole.items()} == dict.fromkeys(whole, (11,))
    for name, values in alone.items():
        torch.testing.assert_close(values[0], whole[name][9])


def test_the_status_tells_the_phase_and_the_best_by_its_measure(ended):
    run = ended[0]
    found = json.loads(train(["status", str(run), "--json"]))
    scores = found["adversarial"]["scores"]
    assert (found["adversarial"]["start"], found["adversarial"]["begun"]) == (START, True)
    last = points(run)[-1]
    assert scores == {name: last[name] for name in scores}
    assert {"valid/real_score", "adversarial/real_score"} <= scores.keys()
    best = best_checkpoint(run / "checkpoints", "frechet")
    assert (found["checkpoints"]["best"], found["checkpoints"]["best_by"]) == (int(best.name[5:]), "frechet")
    text = train(["status", str(run)])
    assert f"in the adversarial phase since step {START}; newest scores: of training recordings" in text
    assert f"best by frechet: step {found['checkpoints']['best']}" in text


def test_what_cannot_be_measured_is_one_line(data_dir, tmp_path):
    run = tmp_path / "run"
    told = train(flags("vae", data_dir, run, "--until", "mel"), code=1)
    assert "until is 'mel': write MEASURE:STEPS" in told
    told = train(flags("vae", data_dir, run, "--checkpoint.best_by", "zimtohrli"), code=1)
    assert "zimtohrli needs chunks of 0.25 s, and these have 0.1 s: choose another measure" in told
    build(data_dir.parent / "tunes", tmp_path / "set", samples=SAMPLES, hop=SAMPLES, valid=0, workers=1)
    told = train(flags("vae", tmp_path / "set", run, "--until", "mel:9"), code=1)
    assert "until needs held-out recordings, and these shards have none: leave it out" in told
    assert not run.exists()


def test_zimtohrli_of_chunks():
    time = torch.arange(RATE // 2) / RATE
    tone = 0.3 * torch.sin(2 * torch.pi * 440 * time)
    audio = torch.stack([tone, tone, tone, tone])[:, None]
    output = torch.stack([tone, tone + 0.1 * torch.randn(len(tone)), 0 * tone, tone * torch.nan])[:, None]
    found = heard(audio, output, RATE)
    assert found.dtype == torch.float32
    assert found[0] > found[1] >= 1
    assert found[2:].isnan().all()
