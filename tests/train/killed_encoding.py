"""`python -m train encode ...`, ended like by `kill -9` at the place that AUDIO_TRAIN_KILL_AT names."""

import os
import runpy
import signal
from collections.abc import Callable
from typing import Any

from shards.manifest import Manifest
from train.encoding import data_folder, encode


def die_after(action: Callable[..., Any], times: int = 1) -> Callable[..., Any]:
    """The action, which ends the process when it has been done so many times."""
    calls = 0

    def acted(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        result = action(*args, **kwargs)
        if calls == times:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    return acted


if __name__ == "__main__":
    match os.environ["AUDIO_TRAIN_KILL_AT"]:
        case "second sequence":
            encode.write_sequence = die_after(encode.write_sequence, 2)
        case "shards":
            data_folder.Shuffler.write = die_after(data_folder.Shuffler.write)  # type: ignore[method-assign]
        case "first move":
            data_folder.sync = die_after(data_folder.sync, 2)  # each shard is synced, then moved
        case "manifest":
            Manifest.save = die_after(Manifest.save)  # type: ignore[method-assign]
        case other:
            raise ValueError(other)
    runpy.run_module("train", run_name="__main__", alter_sys=True)
