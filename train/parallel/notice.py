"""Where the processes of a run tell each other of a stop, beside their collectives."""

import os
from contextlib import suppress
from datetime import timedelta

import torch.distributed as dist

KEY = "audio-train/stop"
TIMEOUT = timedelta(seconds=5)


class StoreNotice:
    """A key in the store at which the processes of a run met; a connection of its own, for use in a thread.

    The launcher or rank 0 holds the store. When it is gone, nothing is posted any more.
    """

    def __init__(self) -> None:
        self._store = dist.TCPStore(
            os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), is_master=False, timeout=TIMEOUT
        )

    def post(self) -> None:
        """Tells the other processes that one was asked to stop."""
        with suppress(RuntimeError):
            self._store.set(KEY, "1")

    def posted(self) -> bool:
        """Whether a process was asked to stop, as far as this one can know."""
        with suppress(RuntimeError):
            return bool(self._store.check([KEY]))
        return False
