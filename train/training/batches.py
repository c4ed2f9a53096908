"""Batches for the training loop, and the records of which chunks they held."""

from dataclasses import asdict

import torch
from torch import Tensor

from shards import Batch, BatchStream
from shards.files import append_line, make_folder
from train.augment.draws import seed_of_others
from train.augment.preparation import Preparation
from train.process.console import Display
from train.runs.run_folder import DAMAGE_FILE
from train.training.context import Context
from train.training.meter import Meter


class BatchFeed:
    """Iterates over this process's batches from the learner's cursor on. Use it as a context manager.

    The meter gets the time that training waits for data.

    Attributes:
        damaged: Number of damaged chunks that this process has found in this attempt: float scalar on the device.
    """

    def __init__(self, context: Context, meter: Meter) -> None:
        config, engine = context.config, context.engine
        self._context, self._meter = context, meter
        self._last: Batch | None = None
        self._other: Batch | None = None  # as many rows, to mix in
        self._preparation = Preparation(config.augment, config.data.crop, config.seed, context.train_split)
        self.damaged = torch.zeros((), device=engine.device)
        self._stream = self._opened(config.seed)
        self._others = self._opened(seed_of_others(config.seed)) if config.augment.mix else None

    @property
    def _streams(self) -> list[BatchStream]:
        return [self._stream, *([self._others] if self._others else [])]

    def _opened(self, seed: int) -> BatchStream:
        """Batches from the learner's cursor on, in the order of a seed."""
        context = self._context
        config, engine = context.config, context.engine
        return BatchStream(
            context.train_split,
            config.data.batch,
            seed,
            engine.rank,
            engine.world,
            context.learner.cursor,
            pin_memory=engine.device.type == "cuda",
            memory=int(config.data.memory_gb * 1e9) or None,
            share=engine.local_world * (2 if config.augment.mix else 1),
            damage_limit=config.data.damage_limit,
            mixture=context.learner.mixture,
        )

    def __enter__(self) -> "BatchFeed":
        return self

    def __exit__(self, *_: object) -> None:
        for stream in self._streams:
            stream.close()

    def __next__(self) -> Batch:
        for stream in self._streams:
            stream.keep_pace()
        with self._meter.waiting():
            self._last = next(self._stream)
            self._other = next(self._others) if self._others else None
        return self._last

    def prepared(self, batch: Batch, device: torch.device, part: slice) -> Tensor:
        """What the model takes of some rows of the last batch in this step: [m, A, T] in [-1, 1]."""
        return self._preparation.audio(batch, self._other, self._context.learner.step, device, part)

    def record_samples(self) -> None:
        """Appends the last batch's rows and chunks to `samples/` in the run folder if tracking.samples is set."""
        if not self._context.config.tracking.samples or self._last is None:
            return
        folder = self._context.run.path / "samples"
        make_folder(folder, self._context.run.path)
        rows, chunks = self._last.rows.tolist(), self._last.chunks.tolist()
        content = {"step": self._context.learner.step, "rows": rows, "chunks": chunks}
        append_line(folder / f"rank-{self._context.engine.rank:05d}.jsonl", content, self._context.run.path)

    def record_damage(self, display: Display) -> None:
        """Warns about damaged chunks found since the last call, and records them in the run folder."""
        step, rank = self._context.learner.step, self._context.engine.rank
        for damage in (found for stream in self._streams for found in stream.damage()):
            other = self._context.train_split.names([damage.replacement])[0]
            display.warn(f"{damage.shard}: member {damage.member} is damaged; training uses {other} instead")
            content = {"step": step, "rank": rank, "replacement": other, **asdict(damage)}
            append_line(self._context.run.path / DAMAGE_FILE, content)
            self.damaged += 1

    def names(self) -> list[str]:
        """Names of the chunks in this process's share of the last batch."""
        return self._context.train_split.names(self._last.chunks) if self._last is not None else []

    def report(self) -> str:
        """Step, shards being read and chunks of the last batch, for the watchdog's file."""
        step, steps = self._context.learner.step, self._context.config.optim.steps
        text = f"step {step} of {steps}; being read: {self._stream.waiting_for()}"
        if self._last is not None:
            text += "\nchunks of the last batch:\n" + "\n".join(self.names())
        return text
