"""`python -m tests.train.slow_phases ...` is `python -m train ...` with one phase that takes a minute.

SLOW_PHASE names the phase, SLOW_STEP the step at which an evaluation is slow, and SLOW_RANK the only slow process. The
phase "examples" takes until a stop request, and the end of a process that has nothing to save takes some seconds then.
"""

import os
import time
from collections.abc import Callable
from typing import Any

from train import __main__ as command
from train.tracking import tracker
from train.training import attempt, batches, loop
from train.training.held_out import reconstruction, validation
from train.training.preflight import check

PHASE = os.environ["SLOW_PHASE"]
SECONDS = 60.0
ENDING_S = 8.0
STEP = int(os.environ.get("SLOW_STEP", "0"))
HERE = os.environ.get("SLOW_RANK", "") in ("", os.environ.get("RANK", "0"))
WHERE: dict[str, tuple[Any, str]] = {
    "data": (attempt, "open_splits"),
    "preflight": (check, "check_process"),
    "batch": (batches.BatchFeed, "__next__"),
    "first step": (loop, "train_step"),
    "evaluation": (validation.Validation, "_measure_here"),
    "share": (reconstruction, "measure_share"),
    "examples": (validation.Validation, "_examples"),
    "close": (tracker.Tracker, "close"),
}


def slow(function: Callable[..., Any]) -> Callable[..., Any]:
    def wrapper(*args: Any, **more: Any) -> Any:
        if HERE and (PHASE != "share" or steps[0] == STEP):
            open(os.environ["SLOW_MARK"] + os.environ.get("RANK", "0"), "w").close()
            until = time.monotonic() + SECONDS
            while time.monotonic() < until and not (PHASE == "examples" and args[0]._context.stop.reason):
                time.sleep(0.02)
        return function(*args, **more)

    return wrapper


steps = [0]


def counted(step: Callable[..., Any]) -> Callable[..., Any]:
    def wrapper(config: Any, engine: Any, learner: Any, *more: Any) -> Any:
        steps[0] = learner.step + 1
        return step(config, engine, learner, *more)

    return wrapper


def delayed(end: Callable[..., Any]) -> Callable[..., Any]:
    def wrapper(*args: Any) -> Any:
        time.sleep(ENDING_S)
        return end(*args)

    return wrapper


if __name__ == "__main__":
    if PHASE == "examples":
        loop.end_before_a_step = delayed(loop.end_before_a_step)
    loop.train_step = counted(loop.train_step)
    place, name = WHERE[PHASE]
    setattr(place, name, slow(getattr(place, name)))
    command.main()
