"""Checkpoints written beside the training."""

import threading
from pathlib import Path

from audiovae import Autoencoder
from train.errors import TrainError
from train.optim.snapshot import Snapshot
from train.runs.checkpoint import Retention, save


class Saver:
    """Lets a thread write checkpoints, one at a time.

    Args:
        folder: Of the checkpoints.
        model: For its configuration and the names of its parts.
        retention: Which checkpoints stay.
    """

    def __init__(self, folder: Path, model: Autoencoder, retention: Retention) -> None:
        self._folder, self._model, self._retention = folder, model, retention
        self._thread: threading.Thread | None = None
        self._failure: BaseException | None = None
        self.saved = 0  # the newest step on the disk, written by this process

    def begin(self, snapshot: Snapshot) -> None:
        """Starts to save a snapshot, which must stay as it is until `finish`; the save before must be finished."""
        assert self._thread is None, "the save before is still under way"
        self._thread = threading.Thread(target=self._write, args=(snapshot,), name="saver")
        self._thread.start()

    def finish(self) -> None:
        """Waits until all is on the disk.

        Raises:
            TrainError: when it could not be written.
        """
        if self._thread:
            self._thread.join()
            self._thread = None
        self.check()

    def check(self) -> None:
        """Hears of a save that failed, without waiting.

        Raises:
            TrainError: when it could not be written.
        """
        if self._failure:
            failure, self._failure = self._failure, None
            raise failure

    def _write(self, snapshot: Snapshot) -> None:
        try:
            save(self._folder, self._model, snapshot, self._retention)
            self.saved = snapshot.state["step"]
        except TrainError as error:
            self._failure = error
        except Exception as error:  # in this thread nobody else would hear of it
            self._failure = TrainError(f"{self._folder}: cannot be saved ({error!r}); this is a bug")
