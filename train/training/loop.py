"""The training loop, for every family alike."""

import json
import math
import time
from contextlib import suppress
from dataclasses import asdict

import torch
from torch import Tensor

import audiovae
from audiovae import Autoencoder
from shards import Batch, BatchStream, Split
from shards.files import append_line, make_folder, write_atomically
from train.config import RunConfig
from train.errors import TrainError
from train.evaluation.measuring.heldout import measure_split, spread, to_audio
from train.evaluation.measuring.latents import latent_use
from train.evaluation.measuring.metrics import measure
from train.optim.objective import Objective
from train.parallel.engine import Engine
from train.process.console import Display
from train.process.live_view import RunInfo
from train.process.stop_requests import FINISHED, StopRequest, exit_code_when_stopped
from train.process.watchdog import Watchdog, watchdog_limit
from train.runs import checkpoint
from train.runs.async_save import Saver
from train.runs.checkpoint import Retention
from train.runs.model_facts import facts_of
from train.runs.run_folder import DAMAGE_FILE, RunDir
from train.tracking.media import Media
from train.tracking.tracker import Tracker
from train.training.examples import Examples
from train.training.learner import Learner, train_step
from train.training.meter import Meter

EXAMPLES = 4
LATENT_USE_CHUNKS = 256


def objective_of(config: RunConfig, model: Autoencoder) -> Objective:
    """The weighted sum of a model's loss terms; raises TrainError when terms and weights do not match."""
    try:
        return Objective(config.weights, config.kl_warmup, {"mse", "stft", *model.loss_names})  # type: ignore[attr-defined]
    except ValueError as error:
        raise TrainError(str(error)) from None


class Training:
    """A run in progress: what happens between steps."""

    def __init__(
        self, config: RunConfig, engine: Engine, run: RunDir, splits: tuple[Split, Split | None], learner: Learner
    ):
        self.config, self.engine, self.run, self.learner = config, engine, run, learner
        self.train_split, self.valid_split = splits
        self.objective = objective_of(config, learner.model)
        self.tracker = Tracker(run, config.tracking, config, learner.step) if engine.is_main else None
        keep = config.checkpoint
        retention = Retention(keep.keep, keep.keep_best, keep.keep_every)
        self.saver = Saver(run.path / "checkpoints", learner.model, retention)
        self.batch: Batch | None = None  # the last one
        self.meter = Meter()
        self.skipped = torch.zeros((), device=engine.device)
        self.damaged = torch.zeros((), device=engine.device)  # chunks found by this process in this attempt

    def go(self) -> int:
        """Trains until the last step or a wish to stop; returns the exit code."""
        config, learner, engine = self.config, self.learner, self.engine
        shown = Display(self.scale(), learner.step, engine.is_main, lambda: self.saver.saved)
        wish = StopRequest(self.run.path / "STOP", look_for_file=engine.is_main, tell=shown.call)
        stream = BatchStream(
            self.train_split,
            config.data.batch,
            config.seed,
            engine.rank,
            engine.world,
            learner.cursor,
            pin_memory=engine.device.type == "cuda",
            memory=int(config.data.memory_gb * 1e9) or None,
            share=engine.local_world,
            damage_limit=config.data.damage_limit,
        )
        learner.strategy.wrapped.train()
        self.watchdog = Watchdog(
            watchdog_limit(config.watchdog_s, config.compile),
            self.run.path / f"hang-rank-{engine.rank}.txt",
            lambda: self._progress_report(stream),
            lambda what: self.run.fail(what, learner.step) if engine.is_main else None,
        )
        with stream, shown as display, self.watchdog:
            self._announce(display)
            if self.valid_split is None:
                display.say("no held-out recordings in these shards: nothing is measured while training")
            if learner.step == 0:
                self.track(self.evaluate(display))
            saved = learner.step
            while learner.step < config.optim.steps:
                waited = time.monotonic()
                batch = self.batch = next(stream)
                self.meter.waited += time.monotonic() - waited
                norm = train_step(config, engine, learner, self.objective, batch, self.meter)
                self.watchdog.heartbeat()
                self.saver.check()
                self.count_skipped_steps(norm)
                self.note_samples(batch)
                self.note_damage(stream, display)
                display.step(learner.step, learner.cursor.epoch + learner.cursor.consumed / len(self.train_split))
                last = learner.step == config.optim.steps
                point = {}
                if last or learner.step % config.tracking.every == 0:
                    point |= self.measure_training(display, batch)
                if last or learner.step % config.tracking.evaluate_every == 0:
                    point |= self.evaluate(display)
                self.track(point)
                planned = f"stop_at {config.stop_at}" if learner.step == config.stop_at else ""
                stop = engine.any_wants_to_stop(wish()) or bool(planned)
                if stop or last or learner.step - saved >= config.checkpoint.every:
                    self.save(display)
                    saved = learner.step
                if stop and not last:
                    return self.stopped(wish.reason or planned, display)
            return self.finished(display)

    def scale(self) -> RunInfo:
        """What the steps of this run amount to."""
        config, split = self.config, self.train_split
        title = f"{self.learner.model.family} {self.run.name}"
        seconds = split.samples / split.rate
        return RunInfo(title, config.optim.steps, config.data.batch, seconds, len(split), config.checkpoint.every)

    def _announce(self, display: Display) -> None:
        count = sum(parameter.numel() for parameter in self.learner.model.parameters())
        display.say(
            f"{self.learner.model.family}: {count / 1e6:.1f} M parameters, {len(self.train_split)} chunks, "
            f"{self.config.data.batch} a step over {self.engine.world} process(es) on {self.engine.device.type}, "
            f"precision {self.engine.precision}, from step {self.learner.step}; to stop and save: "
            f"touch {self.run.path}/STOP"
        )

    def _progress_report(self, stream: BatchStream) -> str:
        """What to tell when there is no progress."""
        told = f"step {self.learner.step} of {self.config.optim.steps}; being read: {stream.waiting_for()}"
        if self.batch is not None:
            told += "\nchunks of the last batch:\n" + "\n".join(self.train_split.names(self.batch.chunks))
        return told

    def count_skipped_steps(self, norm: Tensor) -> None:
        """Counts skipped steps in a row on the device; `measure_training` reads it."""
        exploded = self.learner.strategy.gradient_guard.exploded
        skipped = ~norm.isfinite() | exploded
        self.skipped = (self.skipped + 1) * skipped
        values = {"optim/gradient_norm": norm, "optim/skipped": skipped.float(), "optim/exploded": exploded.float()}
        self.meter.add(values, 1.0 / self.engine.world)

    def note_samples(self, batch: Batch) -> None:
        """Writes down what this process consumed, when that is wanted."""
        if self.config.tracking.samples:
            content = {"step": self.learner.step, "rows": batch.rows.tolist(), "chunks": batch.chunks.tolist()}
            make_folder(self.run.path / "samples", self.run.path)
            append_line(self.run.path / "samples" / f"rank-{self.engine.rank:05d}.jsonl", content, self.run.path)

    def note_damage(self, stream: BatchStream, display: Display) -> None:
        """Tells of damaged chunks and what was used in their place."""
        for damage in stream.damage():
            other = self.train_split.names([damage.replacement])[0]
            display.warn(f"{damage.shard}: member {damage.member} is damaged; {other} is used in its place")
            content = {"step": self.learner.step, "rank": self.engine.rank, "replacement": other, **asdict(damage)}
            append_line(self.run.path / DAMAGE_FILE, content)
            self.damaged += 1

    def track(self, point: dict[str, float]) -> None:
        """Logs what there is to log about this step."""
        if self.tracker and point:
            self.tracker.log(self.learner.step, point)

    def measure_training(self, display: Display, batch: Batch) -> dict[str, float]:
        """Means of the steps since the last point; ends a run that only skips."""
        config, learner = self.config, self.learner
        values = self.meter.read(self.engine, config.data.batch)
        values["optim/learning_rate"] = learner.strategy.rate
        values["data/damaged_chunks"] = self.engine.sum({"damaged": self.damaged})["damaged"].item()
        values["samples_seen"] = learner.step * config.data.batch
        weights = self.objective.weights_at(learner.step - 1)
        values |= {f"weight/{name}": weight for name, weight in weights.items() if name.startswith("kl")}
        display.note(learner.step, values)
        if self.skipped.item() >= config.optim.skip_limit:
            names = self.train_split.names(batch.chunks)
            file = self.run.path / f"skipped-step-{learner.step}-rank-{self.engine.rank}.json"
            write_atomically(file, json.dumps({"step": learner.step, "chunks": names}, indent=1) + "\n")
            raise TrainError(
                f"{int(self.skipped.item())} steps in a row had values that are not finite, or gradients that "
                f"exploded (step {learner.step}); lower optim.lr, or look at the chunks named in {file}"
            )
        return values

    def evaluate(self, display: Display) -> dict[str, float]:
        """Held-out measures with the averaged weights, and now and then examples to hear."""
        learner, tracking = self.learner, self.config.tracking
        if self.valid_split is None:
            return {}
        measuring = display.busy("measuring on held-out chunks")
        with self.meter.paused(), measuring, learner.strategy.averaged() as model:
            chunks = tracking.evaluate_chunks
            values = measure_split(model, self.valid_split, chunks, self.engine, self.watchdog.heartbeat)
            heard = learner.step % tracking.audio_every == 0 or learner.step == self.config.optim.steps
            if self.tracker and heard:
                values |= self.send_examples(model)
        sound = math.isfinite(values["si_sdr"]) and not values["not_finite"]
        learner.valid_si_sdr = values["si_sdr"] if sound else None
        if values["not_finite"]:
            said = f"{100 * values['not_finite']:.3g} % of the held-out chunks come out as values that are not finite"
        elif values["silent"] == 1:
            said = "all held-out chunks are silent: nothing to measure"
        else:
            said = (
                f"held-out SI-SDR {values['si_sdr']:.2f} dB, STFT distance {values['stft']:.3f}, "
                f"mel distance {values['mel']:.3f}, cosine {values['cosine']:.3f}"
            )
        display.say(f"step {learner.step}: {said}")
        return {f"valid/{name}": value for name, value in values.items() if value == value}

    def send_examples(self, model: Autoencoder) -> dict[str, float]:
        """The same few held-out chunks each time, what the model makes of them, and how it uses its latents."""
        split = self.valid_split
        chunks = spread(len(split), EXAMPLES)
        audio = to_audio(split.read(chunks), self.engine.device)
        output = model.reconstruct(audio).float()
        pair = audio.squeeze(1).cpu().numpy(), output.squeeze(1).cpu().numpy()
        measures = {name: values.cpu().numpy() for name, values in measure(output, audio, split.rate).items()}
        usage = {name: share.cpu().numpy() for name, share in model.usage().items()}
        examples = Examples(self.learner.step, split.names(chunks), *pair, measures, split.rate, usage)
        self.tracker.show(Media(examples.step, examples.items))
        levels = latent_use(model, split, LATENT_USE_CHUNKS)
        return {f"{name}_{i}": value for i, level in enumerate(levels) for name, value in level.items()}

    def save(self, display: Display) -> None:
        """Begins a checkpoint of this step; it is written while training goes on."""
        with self.meter.saving():
            self.engine.on_main(self.saver.finish, self.watchdog.paused)
            snapshot = self.learner.snapshot()
            if self.engine.is_main:
                self.saver.begin(snapshot)
                display.saving(self.learner.step)

    def stopped(self, reason: str, display: Display) -> int:
        """Everything is saved and the run can go on."""
        reason = reason or "signal on another process"

        def end() -> None:
            self.saver.finish()
            self.run.end(reason, self.learner.step)

        self.engine.on_main(end, self.watchdog.paused)
        display.say(f"stopped at step {self.learner.step} ({reason}), all saved; the same command resumes")
        return exit_code_when_stopped()

    def finished(self, display: Display) -> int:
        """The last step is done: exports the model and says so."""
        learner, folder = self.learner, self.run.path / "model"
        self.engine.on_main(self.saver.finish, self.watchdog.paused)
        weights = learner.snapshot().averaged

        def export() -> None:
            facts = facts_of(self.run, learner.step, self.train_split.manifest, self.valid_split)
            checkpoint.write_folder(folder, lambda path: audiovae.save(learner.model, path, weights, facts))
            self.run.end("finished", learner.step, finished=True)

        self.engine.on_main(export, self.watchdog.paused)
        display.say(f"finished at step {learner.step}: {folder}")
        return FINISHED

    def close(self, failed: bool) -> None:
        """Ends saving and tracking; a checkpoint that is being written is not lost."""
        with suppress(TrainError):
            self.saver.finish()
        if self.tracker:
            self.tracker.close(failed)
