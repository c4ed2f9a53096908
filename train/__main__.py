"""`python -m train COMMAND ...`: a training, alone or under `accelerate launch`, or a tool; see --help."""

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

# How long processes other than rank 0 wait before they print an error, in seconds.
GRACE_S = 15


# Tools that run on all processes of a launcher, as a training does.
DISTRIBUTED = {"encode", "evaluate"}


def tool(name: str) -> Callable[..., int]:
    """The function behind a subcommand; it takes the settings and returns the exit code.

    Each import happens on use: a table of attempts need not wait for plotting libraries.
    """
    match name:
        case "compare":
            from train.evaluation.compare import compare

            return compare
        case "encode":
            from train.encoding.encode import encode

            return encode
        case "evaluate":
            from train.evaluation.evaluate import evaluate

            return evaluate
        case "status":
            from train.runs.status import status

            return status
        case "sync":
            from train.tracking.wandb_sync import sync

            return sync
        case "verify-resume":
            from train.cli.verify_resume import verify_resume

            return verify_resume
        case "which-samples":
            from train.cli.which_samples import which_samples

            return which_samples
    raise KeyError(name)


def note_user_error(line: str) -> None:
    """Writes an error that only the user can fix to a file for the batch script, as launchers hide exit codes."""
    if file := os.environ.get("AUDIO_TRAIN_REFUSAL"):
        with suppress(OSError):
            Path(file).write_text(f"{line}\n")


def is_user_error(error: Exception, settings: Any) -> bool:
    """Whether the same command would fail again, so that a retry is useless.

    Data that an existing run has read before may be unavailable for a while, such as a mount or a server; that error
    is not the user's.
    """
    from shards import DataError
    from train.errors import TrainError, TransientError

    started = settings is not None and os.path.exists(Path(getattr(settings, "run_dir", "")) / "attempts.jsonl")
    return (isinstance(error, TrainError) and not isinstance(error, TransientError)) or (
        isinstance(error, DataError) and not started
    )


def run(words: list[str]) -> int:
    """Runs one command; returns the exit code."""
    # Else MKL may choose other kernels by where in memory a tensor lies, and on some CPUs the results then differ by
    # rounding. It costs no time that could be measured.
    os.environ.setdefault("MKL_CBWR", "AUTO")
    # Imported here so that main() handles Ctrl-C while the libraries load.
    from shards import DataError
    from shards.text import printable_lines
    from train.cli.parser import make_parser, parse
    from train.config import RUNS
    from train.errors import LaunchError, TrainError
    from train.parallel.engine import Engine, launched_rank

    is_main = launched_rank() == 0
    if not is_main:
        warnings.simplefilter("ignore")
    if not words:
        if is_main:
            print(f"{make_parser(words).format_help()}\nerror: no command given", file=sys.stderr)
        return 2
    engine = settings = None
    try:
        command, settings = parse(words)
        if command in RUNS:
            from train.training.attempt import run_training, watch_for_stop

            stop = watch_for_stop(settings, is_main)
            engine = Engine()
            return run_training(settings, command, engine, stop)
        if command in DISTRIBUTED:
            engine = Engine()
            return tool(command)(settings, engine)
        return tool(command)(settings)
    except (TrainError, DataError, OSError) as error:
        if not is_main and not isinstance(error, LaunchError):
            # Most errors occur on all processes. Rank 0 prints them, and its exit makes the launcher end this process.
            # A process that is alive after the wait has an error that rank 0 does not have. To exit first would make
            # the launcher end rank 0 before it prints.
            time.sleep(GRACE_S)
        elif is_user_error(error, settings):
            note_user_error(str(error))
        who = "" if is_main else f" (process {launched_rank()})"
        print(f"error{who}: {printable_lines(error)}", file=sys.stderr, flush=True)
        return 1
    finally:
        if engine:
            engine.close()


def main() -> None:
    """Runs a command and exits without the interpreter's shutdown, in which gloo's threads sometimes abort."""
    faulthandler.enable()  # prints stacks when a library crashes
    end_with_launcher()
    # A reader that closes the pipe, such as `| head`, must not end an evaluation.
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

        from shards.text import printable

        print(printable(traceback.format_exc(), keep="\n"), end="", file=sys.stderr)
    with suppress(OSError, ValueError):  # the reader has closed the pipe
        sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    main()
