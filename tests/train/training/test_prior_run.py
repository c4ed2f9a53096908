"""The second stage: training a prior on latents, with the promises of every run, and drawing recordings from it."""

import dataclasses
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import torch
from wandb_reader import logged

import audiovae
from audiovae import Noise, Output
from audiovae.priors.flow import times
from audiovae.recordings.overlap_add import gain_of
from audiovae.recordings.sequences import audio_of, sequence_of, to_numbers
from tests.train.conftest import RATE, points, start, train
from tests.train.tracking.test_panels import AXIS, NAMES, OF_PRIORS, pattern
from tests.train.training.test_run import assert_same_state
from train.__main__ import run as main_run
from train.parallel.engine import Engine
from train.training.held_out.likelihood import DRAWS, Likelihood
from train.training.held_out.validation import Validation

FAMILIES = ("vae", "vqvae")
STEPS = 6
TINY = [
    *("--model.transformer.width", "16", "--model.transformer.layers", "2", "--model.transformer.heads", "2"),
    *("--data.batch", "6", "--optim.steps", str(STEPS), "--optim.warmup_steps", "2", "--checkpoint.every", "2"),
    *("--tracking.every", "1", "--tracking.evaluate_every", "3", "--tracking.wandb", "disabled"),
]


def prior_flags(latents: Path, run: Path, *more: str) -> list[str]:
    """Arguments of a tiny run of STEPS steps that logs every step."""
    return ["prior", "--data", str(latents), "--run-dir", str(run), *TINY, *more]


@pytest.fixture(scope="session")
def latents(once, straight, data_dir):
    """latents(family) -> windows of half a second of the tunes' latents; read it only."""

    def of(family: str) -> Path:
        def make(folder: Path) -> None:
            train(["encode", str(straight(family)), str(data_dir), str(folder / "set"), "--seconds", "0.5"])

        return once(f"latents-{family}", make) / "set"

    return of


@pytest.fixture(scope="session")
def straight_prior(once, latents):
    """run(family) -> an uninterrupted run of a prior; read it only."""

    def of(family: str) -> Path:
        return once(f"prior-{family}", lambda at: train(prior_flags(latents(family), at / "run"))) / "run"

    return of


@pytest.mark.parametrize("family", FAMILIES)
def test_stop_and_resume_equal_no_interruption(family, latents, straight_prior, tmp_path):
    train(prior_flags(latents(family), tmp_path / "run", "--stop_at", "3"), code=85)
    train(prior_flags(latents(family), tmp_path / "run"))
    assert_same_state(tmp_path / "run", straight_prior(family))
    assert [row["step"] for row in points(tmp_path / "run")] == list(range(STEPS + 1))


@pytest.mark.parametrize("family", FAMILIES)
def test_two_processes_and_small_micro_batches_equal_one(family, latents, straight_prior, tmp_path):
    train(prior_flags(latents(family), tmp_path / "run", "--data.microbatch", "2"), processes=2)
    one, two = points(straight_prior(family)), points(tmp_path / "run")
    assert len(one) == len(two) == STEPS + 1
    for a, b in zip(one, two, strict=True):
        assert a.keys() == b.keys()
        for name in ("loss/prior", "loss/total", "valid/loss", "optim/gradient_norm"):
            if name in a:
                assert b[name] == pytest.approx(a[name], rel=2e-3, abs=2e-5), (a["step"], name)


@pytest.mark.parametrize("family", FAMILIES)
def test_what_a_run_logs_and_leaves(family, straight_prior):
    run = straight_prior(family)
    measured = [row["valid/loss"] for row in points(run) if "valid/loss" in row]
    assert len(measured) == 3
    assert all(np.isfinite(measured))
    assert ("valid/bits_per_second" in points(run)[0]) == (family == "vqvae")
    state = json.loads((sorted((run / "checkpoints").glob("step-*"))[-1] / "state.json").read_text())
    assert state["valid"] == {"loss": measured[-1]}
    card = (run / "model" / "README.md").read_text()
    assert "audiovae.generate_recordings" in card
    assert "| loss |" in card
    prior, autoencoder = audiovae.load_prior(run)
    assert prior.latents.family == autoencoder.family == family
    assert prior.latents.model == audiovae.fingerprint(autoencoder)


def test_the_panels_of_priors_are_documented(straight_prior, latents, tmp_path):
    """The names that a prior logs are in the list of docs/tracking.md; those of priors alone are logged by one."""
    run = tmp_path / "run"
    train(prior_flags(latents("vae"), run, "--optim.steps", "2", "--tracking.wandb", "offline"))
    seen = {name for row in [*points(straight_prior("vqvae")), *points(run)] for name in row}
    seen |= {name.partition(".")[0] for item in logged(run) for name in item if not name.startswith("_")}
    assert not {name for name in seen - AXIS if not any(pattern(one).fullmatch(name) for one in NAMES)}
    assert seen >= OF_PRIORS


@pytest.mark.parametrize("family", FAMILIES)
def test_recordings_are_drawn(family, straight_prior, tmp_path, capfd):
    """From the model folder alone: longer than the context, the same for any count, and continuing a recording."""
    shutil.copytree(straight_prior(family) / "model", tmp_path / "model")

    def draw(out: str, *more: str) -> list[np.ndarray]:
        done = train_library(["generate", str(tmp_path / "model"), str(tmp_path / out), "--seconds", "1.25", *more])
        assert "prior of" in done
        return [soundfile.read(file)[0] for file in sorted((tmp_path / out).glob("*.wav"))]

    two, one = draw("two", "--count", "2"), draw("one", "--count", "1")
    assert [len(audio) for audio in two] == [round(1.25 * RATE)] * 2
    # Matrix products of another size round differently, so a sample may move by a step of 16 bits.
    np.testing.assert_allclose(two[0], one[0], rtol=0, atol=2 / 32768)
    assert np.abs(two[0] - two[1]).max() > 0
    assert np.abs(draw("other", "--count", "1", "--seed", "1")[0] - one[0]).max() > 0

    begun = 0.5 * np.sin(2 * np.pi * 330 * np.arange(RATE) / RATE)
    soundfile.write(tmp_path / "begun.wav", begun, RATE)
    (longer,) = draw("longer", "--count", "1", "--continue_from", str(tmp_path / "begun.wav"))
    assert len(longer) == RATE + round(1.25 * RATE)
    autoencoder = audiovae.load(tmp_path / "model" / "autoencoder")
    audio = torch.from_numpy(soundfile.read(tmp_path / "begun.wav")[0]).float()
    gain = gain_of(audio, autoencoder.level)
    known = audio_of(autoencoder, sequence_of(autoencoder, audio * gain)).numpy() / gain
    before = slice(0, RATE // 2)  # away from what follows, which a decoder looks at
    np.testing.assert_allclose(longer[before], known[before], atol=1e-3)


def train_library(words: list[str]) -> str:
    """What a command of the library prints."""
    process = start(words, module="audiovae")
    out, err = process.communicate(timeout=1000)
    assert process.returncode == 0, err
    return out


def test_what_does_not_fit_is_one_line(latents, straight, straight_prior, data_dir, tmp_path, capsys):
    def refused(words: list[str], *parts: str) -> None:
        assert main_run(words) == 1
        error = capsys.readouterr().err
        assert error.count("\n") == 1, error
        for part in parts:
            assert part in error

    refused(prior_flags(data_dir, tmp_path / "a"), "holds audio", "python -m train encode RUN")
    vae = ["vae", "--data", str(latents("vae")), "--data.batch", "6", "--run-dir", str(tmp_path / "b")]
    refused(vae, "holds latents", "train a prior")
    refused(prior_flags(latents("vae"), tmp_path / "c", "--checkpoint.best_by", "mel"), "best_by is mel", "loss")
    refused(prior_flags(latents("vae"), tmp_path / "d", "--adversarial.start", "3"), "adversarial")
    model = str(straight("vae"))
    never = ("--start_from", "always begins with random weights", "--run-dir")
    refused(prior_flags(latents("vae"), tmp_path / "e", "--start_from", model), *never)
    refused([*vae, "--start_from", str(straight_prior("vae"))], "another family, prior; choose a vae")
    with pytest.raises(audiovae.ModelError, match="fingerprint"):
        audiovae.load_prior(straight_prior("vae"), straight("vqvae"))
    with pytest.raises(audiovae.ModelError, match="no prior"):
        audiovae.load_prior(straight("vae"))
    with pytest.raises(audiovae.ModelError, match="generate"):
        audiovae.load(straight_prior("vae"))


def test_a_prior_that_describes_other_latents_draws_nothing(straight_prior):
    prior, autoencoder = audiovae.load_prior(straight_prior("vae"))
    for name, value in (("rate", 2 * RATE), ("fade", 0), ("stride", prior.latents.stride + 1)):
        other = dataclasses.replace(prior.latents, **{name: value})
        prior.latents, before = other, prior.latents
        with pytest.raises(audiovae.ModelError, match=f"other latents than those of the autoencoder: {name}"):
            audiovae.generate_recordings(prior, autoencoder)
        prior.latents = before
    # A length that rounds to nothing is a sample.
    assert len(audiovae.generate_recordings(prior, autoencoder, seconds=1e-7)[0]) == 1


def test_records_that_hold_no_codes_end_the_run_in_one_line(straight, data_dir, tmp_path, capsys, monkeypatch):
    """In the calibration, and after it where that has not seen them."""

    def damaged(sequence: torch.Tensor) -> np.ndarray:
        numbers = to_numbers(sequence).copy()
        numbers[len(numbers) // 2, 0] = -100  # the target that `cross_entropy` ignores
        return numbers

    monkeypatch.setattr("train.encoding.encode.to_numbers", damaged)
    assert main_run(["encode", str(straight("vqvae")), str(data_dir), str(tmp_path / "set"), "--seconds", "0.5"]) == 0
    for run, chunks in (("a", 512), ("b", 1)):
        monkeypatch.setattr("train.training.attempt.CALIBRATION_CHUNKS", chunks)
        capsys.readouterr()
        assert main_run(prior_flags(tmp_path / "set", tmp_path / run)) == 1
        assert "the data hold codes from -100 to" in capsys.readouterr().err.splitlines()[-1]


def test_every_held_out_sequence_is_measured_at_all_times():
    """Of few sequences, each with several draws: the times of a sequence do not depend on its place."""
    seen: list[tuple[int, float]] = []

    class Flow:
        has_random_loss = True

        def check_records(self, numbers: torch.Tensor) -> None:
            pass

        def represent(self, audio: torch.Tensor) -> torch.Tensor:
            return audio

        def __call__(self, audio: torch.Tensor, noise: Noise) -> Output:
            sequences = (audio.flatten() * 32768).round().int().tolist()
            seen.extend(zip(sequences, times(noise).tolist(), strict=True))
            return Output(audio, {"prior": torch.ones(len(audio))}, {})

    class Sequences:
        def __len__(self) -> int:
            return 4

        def read(self, chunks: np.ndarray) -> torch.Tensor:
            return torch.from_numpy(chunks).to(torch.int16).unsqueeze(1)

    engine = SimpleNamespace(rank=0, world=1, device=torch.device("cpu"), autocast=nullcontext)
    config = SimpleNamespace(tracking=SimpleNamespace(evaluate_chunks=0))
    Likelihood(SimpleNamespace(engine=engine, config=config)).share(Flow(), Sequences(), lambda: None)
    for sequence in range(4):
        own = [time for number, time in seen if number == sequence]
        assert len(own) == DRAWS // 4
        assert min(own) < 0.15
        assert max(own) > 0.85


@pytest.mark.parametrize("is_main", [True, False])
def test_a_long_drawing_is_no_hang(is_main, straight_prior):
    """While examples are drawn, each layer is a heartbeat; the processes that wait for them pause their watchdogs."""
    run = straight_prior("vae")
    prior, _ = audiovae.load_prior(run)
    beats, pauses = [], []

    @contextmanager
    def paused() -> Iterator[None]:
        pauses.append(True)
        yield

    engine = SimpleNamespace(is_main=is_main, device=torch.device("cpu"), share=lambda own: (True, None, False))
    engine.on_main = partial(Engine.on_main, engine)
    context = SimpleNamespace(
        engine=engine,
        learner=SimpleNamespace(model=prior, step=STEPS),
        config=SimpleNamespace(tracking=SimpleNamespace(audio_every=1000), optim=SimpleNamespace(steps=STEPS)),
        run=SimpleNamespace(path=run),
        stop=SimpleNamespace(interruptible=nullcontext),
    )
    watchdog = SimpleNamespace(heartbeat=lambda: beats.append(1), paused=paused)
    validation = Validation(context, object() if is_main else None, None, watchdog, None)
    media, _ = validation._examples(prior, None)
    assert (media is not None) == is_main
    assert (len(beats) > 64) == is_main, "a flow passes its network 64 times"
    assert bool(pauses) != is_main
    context.learner.step -= 1
    assert validation._examples(prior, None) == (None, {}), "they are not due"
