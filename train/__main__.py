"""`python -m train COMMAND ...`, a training alone or under `accelerate launch`, or a tool; see --help."""

import faulthandler
import os
import sys
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from train.process.output_streams import BestEffortStream
from train.process.stop_requests import end_with_launcher

GRACE_S = 15


def _compare() -> Callable:
    from train.evaluation.compare import compare

    return compare


def _evaluate() -> Callable:
    from train.evaluation.evaluate import evaluate

    return evaluate


def _status() -> Callable:
    from train.runs.status import status

    return status


def _sync() -> Callable:
    from train.tracking.wandb_sync import sync

    return sync


def _verify_resume() -> Callable:
    from train.cli.verify_resume import verify_resume

    return lambda wanted: verify_resume(wanted.config, wanted.words)


def _which_samples() -> Callable:
    from train.cli.which_samples import which_samples

    return which_samples


# Imported when they are used: a table of attempts need not wait for plotting libraries.
TOOLS = {
    "compare": _compare,
    "evaluate": _evaluate,
    "status": _status,
    "sync": _sync,
    "verify-resume": _verify_resume,
    "which-samples": _which_samples,
}


# These are shared among the processes of a launcher, as a training is.
TOGETHER = {"evaluate"}


def note_user_error(line: str) -> None:
    """Tells the batch script, which sees no exit code through a launcher, that this error is the user's to mend."""
    if file := os.environ.get("AUDIO_TRAIN_REFUSAL"):
        with suppress(OSError):
            Path(file).write_text(f"{line}\n")


def is_user_error(error: Exception, settings: Any) -> bool:
    """Whether the same command would fail again: not where something outside may be well again later.

    Data that a run has begun with may be away for a while: a mount, a server.
    """
    from shards import DataError
    from train.errors import TrainError, TransientError

    begun = settings is not None and (Path(getattr(settings, "run_dir", "")) / "attempts.jsonl").exists()
    return (isinstance(error, TrainError) and not isinstance(error, TransientError)) or (
        isinstance(error, DataError) and not begun
    )


def run(words: list[str]) -> int:
    """Runs one command; returns the exit code."""
    # Imported here so that an interrupt while the libraries load is an interrupt, not a traceback.
    from shards import DataError
    from train.cli.parser import make_parser, parse
    from train.config import RUNS
    from train.errors import TrainError
    from train.parallel.engine import Engine, launched_rank

    speaks = launched_rank() == 0
    if not speaks:
        warnings.simplefilter("ignore")
    if not words:
        if speaks:
            print(f"{make_parser().format_help()}\nerror: no command given", file=sys.stderr)
        return 2
    engine = settings = None
    try:
        command, settings = parse(words)
        if command in RUNS:
            from train.training.attempt import run_training

            engine = Engine()
            return run_training(settings, command, engine)
        if command in TOGETHER:
            engine = Engine()
            return TOOLS[command]()(settings, engine)
        return TOOLS[command]()(settings)
    except (TrainError, DataError, OSError) as error:
        if not speaks:
            # Most errors are everybody's: rank 0 says them, and its end makes the launcher end this process.
            # Whoever is still there afterwards has an error of its own. Leaving first would end rank 0 unheard.
            time.sleep(GRACE_S)
        elif is_user_error(error, settings):
            note_user_error(str(error))
        who = "" if speaks else f" (process {launched_rank()})"
        print(f"error{who}: {error}", file=sys.stderr, flush=True)
        return 1
    finally:
        if engine:
            engine.close()


def main() -> None:
    """Runs and leaves without the interpreter's own ending: gloo's threads sometimes abort in it."""
    faulthandler.enable()  # a crash in a library says where
    end_with_launcher()
    # `| head` ends no evaluation.
    sys.stdout, sys.stderr = BestEffortStream(sys.stdout), BestEffortStream(sys.stderr)
    code = 1
    try:
        code = run(sys.argv[1:])
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        code = 130
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else 1 if stop.code else 0
    except BaseException:
        import traceback

        traceback.print_exc()
    with suppress(OSError, ValueError):  # whoever read it is gone
        sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    main()
