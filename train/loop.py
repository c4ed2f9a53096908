"""The training loop, for every family alike."""

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

import audiovae
from audiovae import Autoencoder, Noise, Output, Statistics
from shards import Batch, BatchStream, Cursor, Split
from shards.files import write_atomically
from train import checkpoint
from train.average import AveragedWeights
from train.checkpoint import Snapshot
from train.config import RunConfig
from train.console import Display
from train.engine import Engine
from train.errors import TrainError
from train.heldout import measure_split, spread, to_audio
from train.meter import Meter
from train.objective import Objective
from train.rundir import RunDir
from train.schedules import learning_rate
from train.stopping import FINISHED, STOPPED, StopWish
from train.tracking import Tracker

EXAMPLES = 4


@dataclass
class Learner:
    """All that training changes.

    Attributes:
        model: The bare model.
        wrapped: The model as the engine trains it.
        optimizer: As prepared by the engine.
        average: Averaged weights.
        step: Optimizer steps done.
        cursor: Where the next step begins in the data.
    """

    model: Autoencoder
    wrapped: torch.nn.Module
    optimizer: Any
    average: AveragedWeights
    step: int = 0
    cursor: Cursor = field(default_factory=Cursor)

    def snapshot(self) -> Snapshot:
        """The state to save; no random state: noise and order are functions of seed and step."""
        state = {"step": self.step, "epoch": self.cursor.epoch, "consumed": self.cursor.consumed}
        weights = {name: value.detach() for name, value in self.model.state_dict().items()}
        return Snapshot(state, weights, self.average.state_dict(), self.optimizer.state_dict())

    def restore(self, snapshot: Snapshot) -> None:
        """Goes back to a saved state."""
        self.model.load_state_dict(snapshot.weights)
        self.average.load_state_dict(snapshot.average)
        self.optimizer.load_state_dict(snapshot.optimizer)
        self.step = snapshot.state["step"]
        self.cursor = Cursor(snapshot.state["epoch"], snapshot.state["consumed"])


def make_learner(config: RunConfig, model: Autoencoder, engine: Engine) -> Learner:
    """Model, optimizer and averages at step 0."""
    optimizer = torch.optim.AdamW(
        model.parameters(),
        lr=config.optim.lr,
        betas=config.optim.betas,
        weight_decay=config.optim.weight_decay,
        fused=True,
    )
    wrapped, optimizer = engine.prepare(model, optimizer)
    return Learner(model, wrapped, optimizer, AveragedWeights(model, config.optim.ema))


def micro_batches(batch: Batch, largest: int, device: torch.device) -> Iterator[tuple[Tensor, Tensor, bool]]:
    """Audio [n, 1, T], rows [n] and whether it is the last, for parts of at most `largest` chunks (0: one part)."""
    size = largest or len(batch.rows)
    starts = range(0, len(batch.rows), size)
    for start in starts:
        part = slice(start, start + size)
        yield to_audio(batch.audio[part], device), batch.rows[part].to(device), start == starts[-1]


def joined(parts: list[Statistics]) -> Statistics:
    """The statistics of several micro-batches as one."""
    sums = {name: torch.stack([part.sums[name] for part in parts]).sum(0) for name in parts[0].sums}
    items = {name: torch.cat([part.items[name] for part in parts]) for name in parts[0].items}
    return Statistics(sums, items)


def train_step(
    config: RunConfig, engine: Engine, learner: Learner, objective: Objective, batch: Batch, meter: Meter
) -> Tensor:
    """One optimizer step on one global batch; returns the gradient's norm, which may not be finite.

    Each item weighs 1 / batch in the gradient, on whatever process and in whatever micro-batch it is.
    """
    weights = objective.weights_at(learner.step)
    rate = learning_rate(
        learner.step, config.optim.lr, config.optim.warmup_steps, config.optim.steps, config.optim.final_lr
    )
    for group in learner.optimizer.param_groups:
        group["lr"] = rate
    parts = []
    for audio, rows, last in micro_batches(batch, config.data.microbatch, engine.device):
        share = len(rows) / config.data.batch
        with engine.accumulating(learner.wrapped, last):
            target = learner.model.represent(audio)
            output: Output = learner.wrapped(target, Noise(config.seed, learner.step, rows, config.data.batch))
            terms = learner.model.distances(output.recon, target) | output.losses
            loss = objective(terms, weights).mean()
            # The wrapper divides by the number of processes; this undoes it.
            engine.backward(loss * share * engine.world)
        parts.append(output.statistics)
        meter.add({f"loss/{name}": term.mean() for name, term in terms.items()}, share)
        meter.add({f"model/{name}": value for name, value in output.metrics.items()}, share)
        meter.add({"loss/total": loss}, share)
    norm = engine.clip(learner.wrapped, config.optim.clip)
    engine.step(learner.optimizer, norm)
    learner.step += 1
    statistics = engine.join(joined(parts), batch.rows.to(engine.device), config.data.batch)
    learner.model.update(statistics, learner.step)
    learner.average.update(learner.step)
    learner.cursor = batch.next_cursor
    meter.steps += 1
    return norm


class Training:
    """A run in progress: what happens between steps."""

    def __init__(self, config: RunConfig, engine: Engine, run: RunDir, splits: tuple[Split, Split], learner: Learner):
        self.config, self.engine, self.run, self.learner = config, engine, run, learner
        self.train_split, self.valid_split = splits
        terms = {"mse", "stft", *learner.model.loss_names}
        self.objective = Objective(config.weights, config.kl_warmup, terms)  # type: ignore[attr-defined]
        self.tracker = Tracker(run, config.tracking, config, learner.step) if engine.is_main else None
        self.meter = Meter()
        self.skipped = torch.zeros((), device=engine.device)

    def go(self) -> int:
        """Trains until the last step or a wish to stop; returns the exit code."""
        config, learner, engine = self.config, self.learner, self.engine
        title = f"{learner.model.family} {self.run.path.name}"
        wish = StopWish(self.run.path / "STOP", look_for_file=engine.is_main)
        stream = BatchStream(
            self.train_split,
            config.data.batch,
            config.seed,
            engine.rank,
            engine.world,
            learner.cursor,
            pin_memory=engine.device.type == "cuda",
        )
        learner.wrapped.train()
        with stream, Display(title, learner.step, config.optim.steps, engine.is_main) as display:
            self._greet(display)
            if learner.step == 0:
                self.track(self.evaluate(display))
            saved = learner.step
            while learner.step < config.optim.steps:
                waited = time.monotonic()
                batch = next(stream)
                self.meter.waited += time.monotonic() - waited
                norm = train_step(config, engine, learner, self.objective, batch, self.meter)
                self.count_skipped(norm)
                display.step(learner.step)
                last = learner.step == config.optim.steps
                point = {}
                if last or learner.step % config.tracking.every == 0:
                    point |= self.measure_training(display, batch)
                if last or learner.step % config.tracking.evaluate_every == 0:
                    point |= self.evaluate(display)
                self.track(point)
                stop = engine.any_wants_to_stop(wish())
                if stop or last or learner.step - saved >= config.checkpoint.every:
                    self.save()
                    saved = learner.step
                if stop and not last:
                    return self.stopped(wish.reason, display)
            return self.finished(display)

    def _greet(self, display: Display) -> None:
        count = sum(parameter.numel() for parameter in self.learner.model.parameters())
        display.say(
            f"{self.learner.model.family}: {count / 1e6:.1f} M parameters, {len(self.train_split)} chunks, "
            f"{self.config.data.batch} a step over {self.engine.world} process(es) on {self.engine.device.type}, "
            f"precision {self.engine.precision}, from step {self.learner.step}; to stop and save: "
            f"touch {self.run.path}/STOP"
        )

    def count_skipped(self, norm: Tensor) -> None:
        """Counts skipped steps in a row on the device; `measure_training` reads it."""
        self.skipped = (self.skipped + 1) * (~norm.isfinite())
        values = {"optim/gradient_norm": norm.nan_to_num(), "optim/skipped": (~norm.isfinite()).float()}
        self.meter.add(values, 1.0 / self.engine.world)

    def track(self, point: dict[str, float]) -> None:
        """Logs what there is to log about this step."""
        if self.tracker and point:
            self.tracker.log(self.learner.step, point)

    def measure_training(self, display: Display, batch: Batch) -> dict[str, float]:
        """Means of the steps since the last point; ends a run that only skips."""
        config, learner = self.config, self.learner
        values = self.meter.read(self.engine, config.data.batch)
        values["optim/learning_rate"] = learner.optimizer.param_groups[0]["lr"]
        values["samples_seen"] = learner.step * config.data.batch
        weights = self.objective.weights_at(learner.step - 1)
        values |= {f"weight/{name}": weight for name, weight in weights.items() if name.startswith("kl")}
        shown = ("loss/total", "loss/mse", "loss/stft")
        display.note(learner.step, {name.removeprefix("loss/"): values[name] for name in shown})
        if self.skipped.item() >= config.optim.skip_limit:
            names = self.train_split.names(batch.chunks)
            file = self.run.path / f"skipped-step-{learner.step}-rank-{self.engine.rank}.json"
            write_atomically(file, json.dumps({"step": learner.step, "chunks": names}, indent=1) + "\n")
            raise TrainError(
                f"{int(self.skipped.item())} steps in a row had values that are not finite (step {learner.step}); "
                f"lower optim.lr, or look at the chunks named in {file}"
            )
        return values

    def evaluate(self, display: Display) -> dict[str, float]:
        """Held-out measures with the averaged weights, and now and then examples to hear."""
        learner, tracking = self.learner, self.config.tracking
        with self.meter.paused(), learner.average.in_use():
            values = measure_split(learner.model, self.valid_split, tracking.evaluate_chunks, self.engine)
            heard = learner.step % tracking.audio_every == 0 or learner.step == self.config.optim.steps
            if self.tracker and heard:
                self.send_examples()
        display.say(
            f"step {learner.step}: held-out SI-SDR {values['si_sdr']:.2f} dB, STFT distance {values['stft']:.3f}, "
            f"cosine {values['cosine']:.3f}"
        )
        return {f"valid/{name}": value for name, value in values.items() if value == value}

    def send_examples(self) -> None:
        """The same few held-out chunks each time, and what the model makes of them."""
        audio = to_audio(self.valid_split.read(spread(len(self.valid_split), EXAMPLES)), self.engine.device)
        output = self.learner.model.reconstruct(audio).float()
        pair = audio.squeeze(1).cpu().numpy(), output.squeeze(1).cpu().numpy()
        self.tracker.examples(self.learner.step, *pair, self.valid_split.rate)

    def save(self) -> None:
        """A checkpoint of this step."""
        problem = None
        with self.meter.paused():
            if self.engine.is_main:
                try:
                    folder = self.run.path / "checkpoints"
                    checkpoint.save(folder, self.learner.model, self.learner.snapshot(), self.config.checkpoint.keep)
                except TrainError as error:
                    problem = str(error)
            problem = self.engine.share(problem)
        if problem:
            raise TrainError(problem)

    def stopped(self, reason: str, display: Display) -> int:
        """Everything is saved and the run can go on."""
        if self.engine.is_main:
            self.run.end(reason or "signal on another process", self.learner.step)
        display.say(f"stopped at step {self.learner.step} ({reason}), all saved; the same command resumes")
        return STOPPED

    def finished(self, display: Display) -> int:
        """The last step is done: exports the model and says so."""
        if self.engine.is_main:
            audiovae.save(self.learner.model, self.run.path / "model", self.learner.average.state_dict())
            self.run.end("finished", self.learner.step, finished=True)
        display.say(f"finished at step {self.learner.step}: {self.run.path / 'model'}")
        return FINISHED

    def close(self) -> None:
        """Ends tracking."""
        if self.tracker:
            self.tracker.close()


def resume(learner: Learner, run: RunDir, engine: Engine) -> None:
    """Puts the learner where the newest sound checkpoint left off; all processes take rank 0's choice."""
    chosen = checkpoint.newest_sound(run.path / "checkpoints") if engine.is_main else None
    chosen = engine.share(chosen)
    if chosen is not None:
        learner.restore(checkpoint.load(chosen, engine.device))


def run_training(config: RunConfig, family: str, engine: Engine) -> int:
    """A whole attempt: opens the data and the run, resumes or starts, trains; returns the exit code."""
    splits = Split.open(config.data.path, "train"), Split.open(config.data.path, "valid")
    run = open_run(config, family, splits[0], engine)
    if run.finished:
        if engine.is_main:
            print(f"{run.path}: finished already; see it with: python -m train evaluate {run.path}")
        return FINISHED
    torch.manual_seed(config.seed)
    try:
        model = audiovae.build(family, config.model, splits[0].samples, splits[0].rate)  # type: ignore[attr-defined]
    except ValueError as error:
        raise TrainError(f"model: {error}") from None
    learner = make_learner(config, model.to(engine.device), engine)
    resume(learner, run, engine)
    training = None
    try:
        if engine.is_main:
            run.begin(engine.world)
        training = Training(config, engine, run, splits, learner)
        return training.go()
    except Exception as error:
        if engine.is_main:
            run.fail(str(error).splitlines()[0] if str(error) else type(error).__name__, learner.step)
        raise
    finally:
        if training:
            training.close()


def open_run(config: RunConfig, family: str, split: Split, engine: Engine) -> RunDir:
    """The run's folder, decided on by rank 0; its errors are raised on every process."""
    run, problem = None, None
    if engine.is_main:
        try:
            run = RunDir.create_or_resume(config, family, split.fingerprint)
        except TrainError as error:
            problem = str(error)
    run, problem = engine.share((run, problem))
    if problem:
        raise TrainError(problem)
    return run
