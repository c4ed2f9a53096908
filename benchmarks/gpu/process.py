"""The process of one part: python -m benchmarks.gpu.process NAME JOB."""

import faulthandler
import sys
from importlib import import_module
from pathlib import Path

from benchmarks.gpu.job import Job
from benchmarks.gpu.plan import PARTS
from benchmarks.gpu.rows import Notes


def main(name: str, path: Path) -> None:
    """Measures one part; an error ends the process with a traceback, which its log keeps."""
    faulthandler.enable()
    job = Job.load(path)
    part = next(part for part in PARTS if part.name == name)
    import_module(f"benchmarks.gpu.parts.{part.module}").measure(job, Notes(job.rows, job.seconds))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
