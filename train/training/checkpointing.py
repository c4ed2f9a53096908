"""When checkpoints begin, and who waits for whom meanwhile."""

from train.process.console import Display
from train.process.watchdog import Watchdog
from train.runs.async_save import Saver
from train.training.context import Context
from train.training.meter import Meter


class Checkpointer:
    """Begins checkpoints between steps; a thread of rank 0 writes them and deletes old ones during training."""

    def __init__(self, context: Context, saver: Saver, meter: Meter, watchdog: Watchdog, display: Display) -> None:
        self._context, self._saver = context, saver
        self._meter, self._watchdog, self._display = meter, watchdog, display
        self._newest = context.learner.step  # begun here, or the one that this attempt resumed from

    def check(self) -> None:
        """Raises TrainError if the thread could not write a checkpoint; does not wait."""
        self._saver.check()

    def due(self) -> bool:
        """Whether checkpoint.every steps have passed since the newest one, or the adversarial phase begins."""
        step, config = self._context.learner.step, self._context.config
        return step - self._newest >= config.checkpoint.every or step == config.phase_start

    def settle(self) -> None:
        """Waits until the newest checkpoint is written; every process must call it."""
        with self._meter.saving():
            self._context.engine.on_main(self._saver.finish, self._watchdog.paused)

    def begin(self) -> None:
        """Begins a checkpoint of this step. Every process must call it: some hold only parts of the state.

        All processes wait until rank 0 has written the checkpoint before. That may take any time, so their
        watchdogs pause. Then they meet, and gather the state, under the watchdog.
        """
        engine, learner = self._context.engine, self._context.learner
        self.settle()
        with self._meter.saving():
            snapshot = learner.snapshot()
            if engine.is_main:
                self._saver.begin(snapshot)
                self._display.saving(learner.step)
        self._newest = learner.step
