"""`python -m tests.train.arithmetic OUT`: the same training on one, two and three processes over gloo.

test_arithmetic.py compares them. Each process writes its results to OUT/WORLD-RANK.safetensors. The processes are forks
of one that has imported everything, so all six together take little longer than one.
"""

import multiprocessing
import os
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

import audiovae
from audiovae import Noise
from shards import Cursor
from tests.train.conftest import NO_LEVELS, flags
from train.adversarial.discriminator import make_discriminator
from train.adversarial.settings import AdversarialConfig
from train.cli.parser import parse
from train.config import RunConfig
from train.evaluation.measuring import heldout
from train.evaluation.measuring.frechet import embed, frechet
from train.parallel.engine import Engine
from train.parallel.strategy import MOMENTS
from train.training.held_out.extra import extra_of, judged
from train.training.learner import Learner, make_learner, make_objective
from train.training.meter import Meter
from train.training.step import train_step

WORLDS = (1, 2, 3)
SAMPLES, RATE = 2205, 22050
BATCH, MICRO = 7, 2  # shares of 7, of 4 and 3, of 3, 2 and 2; in micro-batches of 2 and 1
HELD_OUT = 23  # chunks: not a multiple of the number of processes, nor of AT_A_TIME
AT_A_TIME = 4
SILENT = (0, 22)
NAN_ROW = 1  # row of the skipped batch; it belongs to one process only
CLIP = 0.05  # far below the norm
NO_CLIP = 1e9
FAR = 1e3  # position of a code that no vector chooses


def chunks(count: int, seed: int) -> Tensor:
    """Noise from loud to faint, so that wrong weights change a mean: int16 [count, SAMPLES]."""
    generator = torch.Generator().manual_seed(seed)
    loudness = 10 ** -torch.linspace(0.3, 2, count).unsqueeze(1)
    return (torch.randn(count, SAMPLES, generator=generator) * loudness * 8192).clamp(-32768, 32767).to(torch.int16)


@dataclass
class Share:
    """One process's rows of a global batch, as the loop gets them; float audio may hold NaN."""

    audio: Tensor  # [n, SAMPLES]
    rows: Tensor
    next_cursor: Cursor
    channels: int = 1

    def on(self, device: torch.device, part: slice) -> Tensor:
        return self.audio[part].to(device)


class HeldOut:
    """Held-out chunks of one data set; two are silent, and the ratios leave them out."""

    sets = ("the only one",)
    channels = 1

    def __init__(self) -> None:
        self.audio = chunks(HELD_OUT, 100)
        self.audio[list(SILENT)] = 0

    def __len__(self) -> int:
        return HELD_OUT

    def read(self, wanted: object) -> Tensor:
        return self.audio[torch.as_tensor(wanted)]


def whole_batch(step: int) -> Tensor:
    """The global batch of a step, in another order each time."""
    return chunks(BATCH, step)[torch.randperm(BATCH, generator=torch.Generator().manual_seed(step))]


def share_of(batch: Tensor, step: int, engine: Engine) -> Share:
    rows = torch.arange(engine.rank, BATCH, engine.world)
    return Share(batch[rows], rows, Cursor(0, BATCH * (step + 1)))


def config_of(family: str, *more: str) -> RunConfig:
    # Filled bands bring a few gradients of the VQ-VAE near zero, where Adam's first step multiplies rounding.
    plain = NO_LEVELS[:2] if family == "vqvae" else []
    words = [*("--data.batch", str(BATCH)), *("--data.microbatch", str(MICRO)), *("--optim.clip", str(NO_CLIP))]
    words += [*plain, *more]
    return parse(flags(family, Path("data"), Path("run"), *words))[1]


def learner_of(family: str, config: RunConfig, engine: Engine) -> Learner:
    """A model with perturbed initial weights, the same on every process."""
    torch.manual_seed(1)
    model = audiovae.build(family, config.model, SAMPLES, RATE)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.02 * torch.randn(parameter.shape))
    learner = make_learner(config, model.to(engine.device), engine)
    learner.strategy.wrapped.train()
    return learner


def state_of(learner: Learner) -> dict[str, Tensor]:
    """Weights and buffers, and the optimizer's moments: after one step the first is 1 - beta times the gradient."""
    # Not learner.snapshot(), whose content only rank 0 keeps.
    held = learner.strategy.gather(lambda _, value: value.detach().clone().contiguous())
    state = {f"weight/{name}": value for name, value in held.weights.items()}
    for index, (name, _) in enumerate(learner.model.named_parameters()):
        state |= {f"optimizer/{index}/{moment}": held.moments[f"{moment}.{name}"] for moment in MOMENTS}
    return state | {"optimizer/updates": torch.tensor(held.updates)}


def plain_gradients(config: RunConfig, learner: Learner) -> dict[str, Tensor]:
    """The gradients of the first batch, computed simply: all items in one pass on one process, one mean."""
    audio = heldout.to_audio(whole_batch(0), torch.device("cpu"))
    objective = make_objective(config, learner.model)
    target = learner.model.represent(audio)
    output = learner.model(target, Noise(config.seed, 0, torch.arange(BATCH), BATCH))
    terms = learner.model.distances(output.recon, target) | output.losses
    loss = objective(terms, objective.weights_at(0)).mean()
    parameters = dict(learner.model.named_parameters())
    found = torch.autograd.grad(loss, [*parameters.values()])
    return {f"plain/{index}": value for index, value in enumerate(found)} | {"plain/loss": loss.detach()}


def one_step(family: str, engine: Engine, *more: str) -> dict[str, Tensor]:
    """State, norm and metrics after the first step."""
    config = config_of(family, *more)
    learner = learner_of(family, config, engine)
    result = plain_gradients(config, learner)
    meter = Meter()
    objective = make_objective(config, learner.model)
    norm = train_step(config, engine, learner, objective, share_of(whole_batch(0), 0, engine), meter)
    values = {f"metric/{k}": torch.tensor(v) for k, v in meter.read(engine, BATCH).items() if not k.startswith("perf")}
    return result | values | state_of(learner) | {"norm": norm.detach()}


def skipped_step(engine: Engine, explodes: bool = False) -> dict[str, Tensor]:
    """A VQ-VAE's state before and after a batch with NaN in one row, and after the intact batch that follows.

    With `explodes`, the batch's gradient is instead far above the typical norm that the guard is set to.
    """
    more = ("--optim.explode", "10") if explodes else ()
    config = config_of("vqvae", "--model.quantizer.start_step", "1", *more)
    learner = learner_of("vqvae", config, engine)
    objective = make_objective(config, learner.model)
    result: dict[str, Tensor] = {}
    for step in range(4):
        batch = whole_batch(step)
        guard = learner.strategy.gradient_guard
        if step == 2:
            batch = batch.float()
            if explodes:
                before, guard.state = guard.state, torch.tensor([-30.0, 100.0])
            else:
                batch[NAN_ROW] = torch.nan
            result |= {f"before/{name}": value for name, value in state_of(learner).items()}
        norm = train_step(config, engine, learner, objective, share_of(batch, step, engine), Meter())
        if step == 2:
            result |= {f"after/{name}": value for name, value in state_of(learner).items()} | {"skipped/norm": norm}
            result["skipped/exploded"] = guard.exploded.clone()
            if explodes:
                guard.state = before
    result |= {f"end/{name}": value for name, value in state_of(learner).items()}
    result["norms"] = guard.state
    return result | {"steps": torch.tensor(learner.step), "consumed": torch.tensor(learner.cursor.consumed)}


def codebooks(engine: Engine) -> dict[str, Tensor]:
    """The quantiser's buffers after an update of its moments, k-means, moving averages, and a restart."""
    config = config_of("vqvae", "--model.quantizer.start_step", "2")
    learner = learner_of("vqvae", config, engine)
    objective = make_objective(config, learner.model)
    result: dict[str, Tensor] = {}
    for step, name in enumerate(("moments", "kmeans", "averages", "restart")):
        quantizer = learner.model.quantizer
        if name == "restart":
            quantizer.counts[:, 0] = 1e-3
            quantizer.codes[:, 0] = FAR
            quantizer.totals[:, 0] = FAR * 1e-3
        train_step(config, engine, learner, objective, share_of(whole_batch(step), step, engine), Meter())
        result |= {f"{name}/{key}": value.clone() for key, value in quantizer.named_buffers()}
    return result


def norms(engine: Engine) -> dict[str, Tensor]:
    """A pooled VAE after two steps with batch-normalised means and a learned variance: the second uses estimates."""
    more = ("--model.pooled", "true", "--model.batch_norm", "true", *NO_LEVELS)
    config = config_of("vae", *more, "--model.learned_variance", "true", "--weights.likelihood", "1")
    learner = learner_of("vae", config, engine)
    objective = make_objective(config, learner.model)
    for step in range(2):
        train_step(config, engine, learner, objective, share_of(whole_batch(step), step, engine), Meter())
    return {name: value.clone() for name, value in learner.model.norm.named_buffers()}


def held_out(engine: Engine) -> dict[str, Tensor]:
    """Measures and scores over all processes, and plain means over all chunks that are not silent."""
    config = config_of("vae")
    model = learner_of("vae", config, engine).model.eval()
    split = HeldOut()
    heldout.AT_A_TIME = AT_A_TIME
    result = {f"held/{k}": torch.tensor(v) for k, v in heldout.measure_split(model, split, 0, engine).items()}
    config.checkpoint.best_by = "frechet"
    judge = make_discriminator(AdversarialConfig(windows=[256, 128], filters=4), SAMPLES, 0)
    sums = engine.sum(heldout.measure_share(model, split, 0, engine, extra=extra_of(config, RATE, judge)))
    result["extra/frechet"] = torch.tensor(heldout.frechet_of(sums.pop(heldout.EMBEDDINGS)))
    result |= {f"extra/{name}": torch.tensor(value) for name, value in heldout.means(sums).items()}
    audio = heldout.to_audio(split.audio, torch.device("cpu"))
    plain = heldout.measure(model.reconstruct(audio), audio, RATE)
    heard = plain["silent"] == 0
    plain |= judged(judge, audio, model.reconstruct(audio))
    means = {name: (value if name == "silent" else value[heard]).mean() for name, value in plain.items()}
    pair = (embed(sound, RATE)[heard].numpy() for sound in (audio, model.reconstruct(audio).detach()))
    means["frechet"] = torch.tensor(frechet(*pair))
    return result | {f"plain/{name}": value for name, value in means.items()}


def work() -> dict[str, Tensor]:
    """All results of this process."""
    engine = Engine()
    cases: dict[str, Callable[[], dict[str, Tensor]]] = {
        **{f"{family}.step": lambda family=family: one_step(family, engine) for family in ("vae", "hvae", "vqvae")},
        "norms": lambda: norms(engine),
        "vae.clipped": lambda: one_step("vae", engine, "--optim.clip", str(CLIP)),
        "skipped": lambda: skipped_step(engine),
        "exploded": lambda: skipped_step(engine, explodes=True),
        "codebooks": lambda: codebooks(engine),
        "heldout": lambda: held_out(engine),
        "largest": lambda: {"last rank": torch.tensor(engine.largest(float(engine.rank)))},
    }
    found = {f"{case}:{name}": value for case, run in cases.items() for name, value in run().items()}
    engine.close()
    return found


def rank(out: Path, number: int, world: int, port: int) -> None:
    """Runs one process of a group."""
    os.environ |= {"RANK": str(number), "LOCAL_RANK": str(number), "WORLD_SIZE": str(world)}
    os.environ |= {"LOCAL_WORLD_SIZE": str(world), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    save_file({k: v.contiguous().clone() for k, v in work().items()}, out / f"{world}-{number}.safetensors")
    os._exit(0)


def main(out: Path) -> int:
    """Runs all groups at once; if a process fails, it ends the others."""
    fork = multiprocessing.get_context("fork")
    started = []
    for world in WORLDS:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        started += [fork.Process(target=rank, args=(out, number, world, port)) for number in range(world)]
    for process in started:
        process.start()
    while any(process.is_alive() for process in started):
        if any(process.exitcode for process in started):
            for process in started:
                process.kill()
            return 1
        time.sleep(0.05)
    return int(any(process.exitcode for process in started))


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
