import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import soundfile

from shards.building.build import build
from tests import preloaded
from train.process.stop_requests import STOPPED

ROOT = Path(__file__).parents[2]
BASE = Path(__file__).parent / "base.yaml"
RATE = 22050
SAMPLES = 2205
STEPS = 8
# Only a failing test waits so long.
PATIENCE_S = 1000.0

# Chunks of 0.1 s and towers of a few channels: a run takes seconds.
TRUNK = ["--model.trunk.strides", "[21,5]", "--model.trunk.channels", "[24,24]", "--model.trunk.blocks", "1"]
MODEL = {
    "vae": [*TRUNK, "--model.latent", "8"],
    "hvae": [
        *TRUNK,
        *["--model.level_strides", "[3,7]", "--model.level_channels", "[16,16]", "--model.latents", "[8,4,4]"],
    ],
    "vqvae": [*TRUNK, "--model.latent", "8", "--model.quantizer.codebooks", "2"],
}
MODEL["hvae"] += [
    "--model.latents",
    "[8,4,4]",
    "--model.free_nats",
    "[0,0,1]",
    "--model.balance_steps",
    "5",
    "--weights.kl",
    "[0.02,0.02,0.02]",
]
# With levels of the upper bands, so that everything about exactness holds for them too. Not the HVAE: with levels or
# without, its rounding grows tenfold every other step, up to the tolerances of these tests.
LEVELS = ["--model.levels.bands", "3", "--model.levels.lowest", "1000"]
NO_LEVELS = ["--model.levels.bands", "0", "--weights.levels", "0"]
MODEL["vae"] += [*LEVELS, "--model.levels.latents", "2", "--weights.levels", "0.01"]
MODEL["vqvae"] += [*LEVELS, "--model.levels.latents", "1", "--model.levels.hold", "3"]
MODEL["vqvae"] += ["--model.quantizer.size", "16", "--model.quantizer.start_step", "2"]

# For tests that compare the last point with the last checkpoint: a stop during an evaluation leaves its point to the
# attempt that resumes.
BETWEEN_EVALUATIONS = ["--tracking.evaluate_every", "100000"]


def tune(seconds: float, seed: int) -> np.ndarray:
    """Decaying tones of changing pitch, [n] at RATE."""
    rng = np.random.default_rng(seed)
    t = np.arange(int(0.25 * RATE)) / RATE
    notes = [
        np.exp(-6 * t) * np.sin(2 * np.pi * rng.choice([220, 277, 330, 440, 554]) * t) for _ in range(int(seconds * 4))
    ]
    return 0.5 * np.concatenate(notes)


@pytest.fixture(scope="session")
def data_dir(once) -> Path:
    """Shards of four tunes, one of them held out."""

    def make(folder: Path) -> None:
        (folder / "tunes").mkdir()
        for seed in range(4):
            soundfile.write(folder / "tunes" / f"tune-{seed}.wav", tune(3.0, seed), RATE)
        build(folder / "tunes", folder / "set", samples=SAMPLES, hop=SAMPLES, valid=0.25, workers=1)

    return once("train-data", make) / "set"


def flags(family: str, data: Path, run: Path, *more: str) -> list[str]:
    """Arguments of a tiny run of STEPS steps that logs every step."""
    settings = {
        "data": data,
        "run-dir": run,
        "data.batch": 6,
        "optim.steps": STEPS,
        "optim.warmup_steps": 2,
        "kl_warmup.steps": 4,
        "tracking.every": 1,
        "tracking.evaluate_every": 4,
        "tracking.audio_every": STEPS,
        "tracking.wandb": "disabled",
        "checkpoint.every": 3,
        "config": BASE,
    }
    words = [word for name, value in settings.items() for word in (f"--{name}", str(value))]
    return [family, *words, *MODEL[family], *more]


def environment(**more: str) -> dict[str, str]:
    """The surroundings of a command: nothing of W&B's from outside, threads as launchers set them."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("WANDB") and k not in ("RANK", "WORLD_SIZE")}
    return {**kept, "PYTHONPATH": str(ROOT), **more}


# What tests set and a fork of an interpreter that has imported torch sees, too.
HARMLESS = ("WANDB_", "AUDIO_TRAIN_", "SLURM_", "SLOW_", "RANK", "WORLD_SIZE")


def start(
    words: list[str],
    processes: int = 1,
    session: bool = False,
    launcher: Sequence[str] = (),
    module: str = "train",
    fresh: bool = False,
    **more: str,
) -> subprocess.Popen | preloaded.Process:
    """The real command: alone, or under the launcher with as many processes.

    What is started is a fork of an interpreter that has imported torch, unless it has to be ``fresh``: with a launcher,
    the launcher and what it starts.
    """
    fresh = fresh or any(not name.startswith(HARMLESS) for name in more)
    if "offline" in words and module == "train" and processes == 1 and not launcher and not fresh:
        # On a busy machine W&B's process may need longer than a run waits for it at its end.
        module, more = "tests.train.tracking.impatient", more | {"AUDIO_TRAIN_CLOSE_S": "240"}
    if processes > 1:
        config = ["--config_file", str(ROOT / "accelerate_config.yaml"), "--num_processes", str(processes)]
        module, words = "accelerate.commands.accelerate_cli", ["launch", *config, *launcher, "-m", module, *words]
    if not fresh:
        surroundings = environment(**more)
        if processes > 1:
            surroundings = preloaded.with_forks(surroundings)
        return preloaded.start(module, words, surroundings, session)
    return subprocess.Popen(
        [sys.executable, "-m", module, *words],
        env=environment(**more),
        cwd=ROOT,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=session,
    )


def train(
    words: list[str], processes: int = 1, code: int = 0, launcher: Sequence[str] = (), fresh: bool = False, **more: str
) -> str:
    """Runs the command to its end and returns what it printed; its exit code must be `code`."""
    if processes > 1 and code in (0, STOPPED) and not launcher and not fresh and not more:
        return _train_without_launcher(words, processes, code)
    process = start(words, processes, launcher=launcher, fresh=fresh, **more)
    try:
        out, err = process.communicate(timeout=PATIENCE_S)
    finally:
        process.kill()
    assert process.returncode == code, err[-4000:]
    return out + err


def start_ranks(words: list[str], processes: int, module: str = "train") -> list[preloaded.Process]:
    """The processes of a launcher, with the environment that it sets, as forks of one interpreter, by their rank.

    Each ends with STOPPED when it was asked to stop, which a launcher takes for a crash.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "WORLD_SIZE": str(processes),
        "LOCAL_WORLD_SIZE": str(processes),
        "ACCELERATE_MIXED_PRECISION": "no",
        "ACCELERATE_DYNAMO_BACKEND": "NO",
    }
    return [
        preloaded.start(module, words, environment(**shared, RANK=str(rank), LOCAL_RANK=str(rank)))
        for rank in range(processes)
    ]


def _train_without_launcher(words: list[str], processes: int, code: int) -> str:
    ranks = start_ranks(words, processes)
    try:
        with ThreadPoolExecutor(processes) as pool:
            texts = list(pool.map(lambda rank: "".join(rank.communicate(timeout=PATIENCE_S)), ranks))
    finally:
        for rank in ranks:
            rank.kill()
    assert [rank.returncode for rank in ranks] == [code] * processes, "\n".join(text[-2000:] for text in texts)
    return "".join(texts)


def whole_lines(file: Path) -> list[dict]:
    """The lines of a record in JSON; one that a running process has half written is left out."""
    return [json.loads(line) for line in file.read_text().splitlines(True) if line.endswith("\n")]


def points(run: Path) -> list[dict]:
    """The lines of metrics.jsonl."""
    return whole_lines(run / "metrics.jsonl")


def wait_for_step(run: Path, step: int, process: subprocess.Popen | preloaded.Process) -> None:
    """Until metrics.jsonl has a step, while the command runs."""
    for _ in range(50000):
        if (run / "metrics.jsonl").exists() and (rows := points(run)) and rows[-1]["step"] >= step:
            return
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    raise AssertionError("the run did not get there")


def kill_at_step(step: int, words: list[str], run: Path) -> None:
    """Runs the command until metrics.jsonl has a step, and kills it."""
    process = start(words)
    wait_for_step(run, step, process)
    process.kill()
    process.wait()
    assert not (run / "DONE").exists(), "too fast to be killed"


def flip_a_bit(file: Path) -> None:
    """Flips a bit in the middle of a file."""
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def copy_evaluated(folder: Path, run: Path, data: Path) -> None:
    """Copies a finished run to `run` in a folder, and its data to `set`; the run is evaluated if it was not."""
    from train.__main__ import run as main_run

    shutil.copytree(run, folder / "run")
    shutil.copytree(data, folder / "set")
    if not (folder / "run" / "report" / "metrics.json").exists():
        assert main_run(["evaluate", str(folder / "run"), "--data", str(folder / "set"), "--examples", "1"]) == 0


@pytest.fixture(scope="session")
def straight_in_two(once, data_dir) -> Path:
    """An uninterrupted run of a VQ-VAE on two processes; read it only."""
    return once("straight-in-two", lambda at: train(flags("vqvae", data_dir, at / "vqvae"), processes=2)) / "vqvae"


@pytest.fixture(scope="session")
def straight(once, tmp_path_factory, data_dir):
    """run(family) -> this worker's copy of an uninterrupted run in one process, which is made once."""
    made: dict[str, Path] = {}

    def run(family: str) -> Path:
        if family not in made:
            whole = once(f"straight-{family}", lambda folder: train(flags(family, data_dir, folder / family)))
            made[family] = tmp_path_factory.mktemp("straight") / family
            shutil.copytree(whole / family, made[family], symlinks=True)
        return made[family]

    return run
