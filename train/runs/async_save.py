"""Writes checkpoints in a thread while training continues."""

import threading
from pathlib import Path

from audiovae.trainable import Trainable
from train.errors import TrainError
from train.optim.snapshot import Snapshot
from train.runs.checkpoint import Retention, save
from train.runs.record import Record


class Saver:
    """Writes checkpoints in a thread, one at a time.

    Args:
        folder: The folder of the checkpoints.
        model: See the attribute.
        retention: Which checkpoints to keep.
        record: What the run was made of, for each checkpoint.

    Attributes:
        model: The model, for its configuration and the names of its parts.
        saved: Step of the newest checkpoint that this object has written; 0 for none.
    """

    def __init__(self, folder: Path, model: Trainable, retention: Retention, record: Record | None = None) -> None:
        self._folder, self.model, self._retention, self._record = folder, model, retention, record
        self._thread: threading.Thread | None = None
        self._failure: BaseException | None = None
        self.saved = 0

    def begin(self, snapshot: Snapshot) -> None:
        """Starts to save a snapshot, which must not change until `finish`; call `finish` before the next save."""
        assert self._thread is None, "the previous save is still running"
        self._thread = threading.Thread(target=self._write, args=(snapshot,), name="saver")
        self._thread.start()

    def finish(self) -> None:
        """Waits until the checkpoint is on disk.

        Raises:
            TrainError: when it could not be written.
        """
        if self._thread:
            self._thread.join()
            self._thread = None
        self.check()

    def check(self) -> None:
        """Reports a failed save, without waiting.

        Raises:
            TrainError: when the last checkpoint could not be written.
        """
        if self._failure:
            failure, self._failure = self._failure, None
            raise failure

    def _write(self, snapshot: Snapshot) -> None:
        try:
            save(self._folder, self.model, snapshot, self._retention, self._record)
            self.saved = snapshot.state["step"]
        except TrainError as error:
            self._failure = error
        except Exception as error:  # otherwise the error would be lost in this thread
            self._failure = TrainError(f"{self._folder}: cannot be saved ({error!r}); this is a bug")
