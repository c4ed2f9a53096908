"""One of two processes of test_watchdog.py: `python -m tests.train.process.absent_rank OUT`.

Rank 0 works for longer than the limit, which is no hang; then it waits for a process that does not come.
"""

import sys
import time
from pathlib import Path

from train.parallel.engine import Engine
from train.process.watchdog import Watchdog

worked = False


def work() -> None:
    global worked
    time.sleep(5.0)
    worked = True


def report(message: str) -> None:
    print("work was done:", worked, flush=True)


if __name__ == "__main__":
    engine = Engine()
    file = Path(sys.argv[1]) / f"rank-{engine.rank}.txt"
    with Watchdog(2.0, file, lambda: "at a meeting", report) as dog:
        engine.on_main(work, dog.paused)  # both are there
        worked = False
        if engine.rank == 1:
            with dog.paused():
                time.sleep(3000)
        engine.on_main(work, dog.paused)
