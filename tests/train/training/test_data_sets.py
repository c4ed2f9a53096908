"""Several data sets in fixed shares: the real command, and what it takes from each."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import torch
from safetensors.torch import load_file

from audiovae.priors.latents import LATENTS
from shards import Cursor, DataError, Manifest, Split
from shards.building.build import build
from shards.mixing.mixture import Mixture
from shards.mixing.places import parse_places
from shards.reading.order import EpochOrder
from tests.train.conftest import BETWEEN_EVALUATIONS, RATE, SAMPLES, flags, points, train, tune
from train.cli.which_samples import batch_of_step
from train.config import DataConfig, VAERun, settings_of
from train.errors import TrainError
from train.runs.checkpoint import all_checkpoints
from train.runs.settings_history import DATA
from train.training.data_sets import epochs_of, mix_sets, open_splits
from train.training.learner import cursor_of, mixture_of

BATCH = 6  # of `flags`


@pytest.fixture(scope="session")
def other_dir(once) -> Path:
    """Shards of two other tunes, one of them held out."""

    def make(folder: Path) -> None:
        (folder / "tunes").mkdir()
        for seed in range(2):
            soundfile.write(folder / "tunes" / f"other-{seed}.wav", tune(1.0, 50 + seed), RATE)
        build(folder / "tunes", folder / "other", samples=SAMPLES, hop=SAMPLES, valid=0.5, workers=1)

    return once("second-set", make) / "other"


def samples_of(run: Path) -> dict[int, list[int]]:
    """Chunks of each step in the order of their rows, over all ranks; what was trained last counts."""
    found: dict[int, dict[int, int]] = {}
    for file in sorted((run / "samples").iterdir()):
        for line in map(json.loads, file.read_text().splitlines()):
            found.setdefault(line["step"], {}).update(zip(line["rows"], line["chunks"], strict=True))
    return {step: [rows[row] for row in range(BATCH)] for step, rows in sorted(found.items())}


def test_a_mixture_stops_and_resumes_bit_for_bit(data_dir, other_dir, tmp_path):
    sets = ["--data", f"{other_dir}:0.5"]
    for run, more in (("straight", []), ("run", ["--stop_at", "3"])):
        words = flags("vqvae", data_dir, tmp_path / run, *sets, *more, "--tracking.samples", "true")
        train(words, code=85 if more else 0)
    said = train(flags("vqvae", data_dir, tmp_path / "run", *sets, "--tracking.samples", "true"))
    assert "data sets: set 50 % (90 chunks), other 50 % (10 chunks)" in said
    one, other = (all_checkpoints(tmp_path / run / "checkpoints")[0] for run in ("straight", "run"))
    assert (one / "state.json").read_text() == (other / "state.json").read_text()
    for file in one.glob("*.safetensors"):
        first, second = load_file(file), load_file(other / file.name)
        assert all(torch.equal(first[name], second[name]) for name in first)
    assert samples_of(tmp_path / "straight") == samples_of(tmp_path / "run")
    last = points(tmp_path / "run")[-1]
    assert last["data/epochs_other"] == pytest.approx(8 * BATCH / 2 / 10)


def test_sets_come_and_shares_change_from_a_step_on(data_dir, other_dir, tmp_path):
    run, always = tmp_path / "run", ["--tracking.samples", "true", *BETWEEN_EVALUATIONS]
    train(flags("vae", data_dir, run, *always, "--stop_at", "3"), code=85)
    with_other = ["--data", f"{other_dir}:0.5"]
    refused = train(flags("vae", data_dir, run, *always, *with_other), code=1)
    assert "data.mix: not set -> rest + 0.5" in refused
    train(flags("vae", data_dir, run, *always, *with_other, "--allow_changes", "true", "--stop_at", "5"), code=85)
    less = ["--data", f"{other_dir}:0.25", "--allow_changes", "true"]
    said = train(flags("vae", data_dir, run, *always, *less), processes=2)
    assert "settings change from step 6 on (attempt 3): data.mix rest + 0.5 -> rest + 0.25" in said
    taken = samples_of(run)
    count = len(Split.open(data_dir, "train"))
    first = [chunk for step in taken.values() for chunk in step if chunk < count]
    # The first set is gone through in its own order, whatever came beside it.
    assert first == EpochOrder(count, 0, 0).at(np.arange(len(first))).tolist()
    of_other = [sum(chunk >= count for chunk in chunks) for chunks in taken.values()]
    assert of_other[:5] == [0, 0, 0, 3, 3]
    assert sum(of_other[5:]) == pytest.approx(3 * BATCH / 4, abs=1)
    second = [chunk for step in taken.values() for chunk in step if chunk >= count]
    assert len({*second[:10]}) == 10, "an epoch of the second set"
    for step in (2, 5, 8):
        data = [] if step > 5 else ["--data", str(data_dir)] + ([*with_other] if step > 3 else [])
        found = json.loads(train(["which-samples", str(run), "--step", str(step), "--json", *data]))
        assert [row["chunk"] for row in found["chunks"]] == taken[step]
        assert {row["recording"].split("/")[0] for row in found["chunks"]} <= {"set", "other"} or step < 4


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ("{data}", "are the same data set: name it once"),
        ("{other}:1.5", "leave nothing for set: lower them"),
        ("{other}:0", "a share of 0 leaves the data set out"),
        ("{other}:20dB", "a gain of 20 dB would clip"),
        ("/nowhere", "/nowhere has no dataset.json"),
    ],
)
def test_sets_that_cannot_be_mixed_are_one_line(more, expected, data_dir, other_dir, tmp_path):
    words = flags("vae", data_dir, tmp_path / "run", "--data", more.format(data=data_dir, other=other_dir))
    said = train(words, code=1)
    assert expected in said
    assert "Traceback" not in said
    assert not (tmp_path / "run").exists()


def test_latents_of_several_models_and_gains_of_latents_are_refused(other_dir, tmp_path):
    folders = [tmp_path / name for name in ("one", "two")]
    manifest = Manifest.load(other_dir)
    for number, folder in enumerate(folders):
        folder.mkdir()
        replace(manifest, settings={**manifest.settings, LATENTS: {"number": number}}).save(folder)
    same = {"share": lambda value: value, "first": lambda value: value}
    engine = SimpleNamespace(rank=0, world=1, is_main=True, **same)
    for text, message in (
        (f"{folders[0]} + {folders[1]}", "latents of several models"),
        (f"{folders[0]} + {other_dir}", "latents and audio"),
        (f"{folders[0]}:-6dB", "have no level: leave out the gain"),
    ):
        opened = open_splits(DataConfig(text), engine)
        with pytest.raises(DataError, match=message):
            opened.__enter__()


def settings(text: str) -> SimpleNamespace:
    return SimpleNamespace(data=DataConfig(text, batch=BATCH), seed=0)


def learner_at(step: int, cursor: Cursor, mixture: Mixture | None = None) -> SimpleNamespace:
    return SimpleNamespace(step=step, cursor=cursor, mixture=mixture)


def run_on(fingerprint: str) -> SimpleNamespace:
    return SimpleNamespace(record=SimpleNamespace(settings={DATA: fingerprint}), changes=[])


def test_what_a_run_goes_on_with(data_dir, other_dir):
    both, text = f"{data_dir} + {other_dir}:0.5", str(data_dir)
    one, two, other = Split.open(text, "train"), Split.open(both, "train"), Split.open(other_dir, "train")
    learner = learner_at(9, Cursor(2, 30))
    mix_sets(settings(text), one, run_on(one.fingerprint), learner)
    assert (learner.cursor, learner.mixture) == (Cursor(2, 30), None), "one set as ever"
    mix_sets(settings(both), two, run_on(one.fingerprint), learner)
    assert learner.cursor == Cursor()
    assert [(row.begin, row.parts) for row in learner.mixture.sets] == [(2 * len(one) + 30, 1), (0, 1)]
    learner.cursor = Cursor(0, 40)
    kept = learner.mixture
    mix_sets(settings(both), two, run_on(two.fingerprint), learner)
    assert (learner.cursor, learner.mixture) == (Cursor(0, 40), kept)
    assert epochs_of(two, learner)["other"] == 20 / len(other)
    # The second alone, and the run before knew another set.
    mix_sets(settings(str(other_dir)), other, run_on(two.fingerprint), learner)
    assert [(row.begin, row.parts) for row in learner.mixture.sets] == [(2 * len(one) + 50, 0), (20, 1)]
    stranger = learner_at(9, Cursor(2, 30))
    mix_sets(settings(both), two, run_on("elsewhere"), stranger)
    assert next((row.fingerprint, row.parts) for row in stranger.mixture.sets) == ("elsewhere", 0)
    with pytest.raises(DataError, match="leave nothing for set"):
        mix_sets(settings(both.replace("0.5", "1")), two, run_on(two.fingerprint), learner)


def test_paths_may_change_and_shares_are_a_setting(tmp_path):
    def recorded(text: str) -> dict:
        return settings_of(VAERun(DataConfig(text), tmp_path / "run"))

    one, moved = recorded("a + b:0.5:-6dB"), recorded("/x/a + s3://user:pw@host/b:0.5:-6dB")
    assert one["data.mix"] == moved["data.mix"] == "rest + 0.5 -6dB"
    assert one["data.path"] == f"{Path('a').resolve()} + {Path('b').resolve()}:0.5:-6dB"
    assert "pw" not in moved["data.path"]
    assert "data.mix" not in recorded("a")
    assert recorded("a:3dB")["data.mix"] == "rest 3dB"


def test_a_folder_whose_name_looks_like_a_share_is_recorded_as_it_is(tmp_path):
    config = DataConfig(f"{tmp_path}/x:2/ + {tmp_path}/rock ++ pop/y:0.3")
    assert [place.path for place in parse_places(config.place)] == [f"{tmp_path}/x:2/", f"{tmp_path}/rock + pop/y"]
    assert DataConfig(f"{tmp_path}/x:2").place == f"{tmp_path}/x:2"


def test_a_state_with_shares_that_cannot_be_is_one_line():
    assert mixture_of({}) is None
    with pytest.raises(TrainError, match="the newest checkpoint cannot be used: a mixture must be a list of sets"):
        mixture_of({"mixture": 3})


@pytest.mark.parametrize("state", [{}, {"epoch": 0, "consumed": "1"}, {"epoch": 0, "consumed": 1 << 62}, {"epoch": -1}])
def test_a_state_without_a_place_in_the_data_is_one_line(state):
    with pytest.raises(TrainError, match="its state has no place in the data; move it away"):
        cursor_of(state)


def test_an_attempt_on_several_sets_without_shares_is_one_line(data_dir, other_dir, tmp_path):
    start = {"step": 0, "epoch": 0, "consumed": 0, "batch": BATCH, "seed": 0}
    run = SimpleNamespace(
        path=tmp_path, config={"optim.steps": 9}, damaged_lines=dict, starts=lambda: [start, start | {"step": 7}]
    )
    split = Split.open(f"{data_dir} + {other_dir}", "train")
    with pytest.raises(TrainError, match=r"attempts.jsonl: an attempt has no shares of its data sets; the file may"):
        batch_of_step(run, split, 3)
