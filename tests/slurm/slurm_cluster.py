"""The cluster as tests see it."""

import math
import os
import re
import shutil
import subprocess
import threading
import time
from pathlib import Path

HOME = Path(__file__).resolve().parents[2]
CLUSTER = Path(__file__).parent / "cluster"
PROGRAMS = ("slurmctld", "slurmd", "sbatch")
FRESH_S = 0.2
# Only a failing test waits so long. A job starts in 10 s, and in minutes on a small machine with six jobs at once.
PATIENCE_S = 480.0


def missing() -> list[str]:
    """Programs of Slurm that are not installed."""
    path = os.environ["PATH"] + ":/usr/sbin:/sbin"
    return [name for name in PROGRAMS if not shutil.which(name, path=path)]


class Cluster:
    """The running cluster, seen from outside of it.

    Attributes:
        root: Its folder.
        small: A disk of 24 MB that all its machines share, and only they.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.small = root / "small"
        self.env = {k: v for k, v in os.environ.items() if not k.startswith(("SLURM_", "SBATCH_", "AUDIO_TRAIN_"))}
        self.env |= {"SLURM_TEST_ROOT": str(root)}
        self._jobs: dict[str, dict[str, str]] = {}
        self._asked = -math.inf
        self._asking = threading.Lock()

    def order(self, *words: object) -> subprocess.CompletedProcess:
        """`cluster WORDS`, which must not fail."""
        return self._call([str(CLUSTER), *map(str, words)], self.env)

    def inside(self, *words: object, check: bool = True, cwd: Path | None = None, **env: str) -> str:
        """What a command on the login host prints."""
        return self._call([str(CLUSTER), "in", *map(str, words)], self.env | env, check, cwd).stdout

    def _call(self, words, env, check=True, cwd=None) -> subprocess.CompletedProcess:
        done = subprocess.run(words, env=env, cwd=cwd, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
        assert not check or done.returncode == 0, f"{words}: {done.stderr}"
        return done

    def facts(self, job: str) -> dict[str, str]:
        """What `scontrol show job` says, FRESH_S ago at most: scenarios that wait share one question about all jobs."""
        with self._asking:
            if time.monotonic() - self._asked > FRESH_S or job not in self._jobs:
                asked = time.monotonic()
                records = self.inside("scontrol", "--all", "show", "job").split("\n\n")
                # The first line ends with the job's name, and lines of free text may look like other fields.
                lines = [
                    re.sub(r"JobName=.*|^ +(Command|Comment|WorkDir|Std\w+)=.*", "", text, flags=re.M)
                    for text in records
                ]
                found = [dict(re.findall(r"(\S+?)=(\S*)", line)) for line in lines]
                self._jobs, self._asked = {facts["JobId"]: facts for facts in found if "JobId" in facts}, asked
            return self._jobs[job]


def until(happens, what: str, seconds: float = PATIENCE_S) -> None:
    """Waits for something; fails with `what` when it does not happen in time."""
    deadline = time.monotonic() + seconds
    while not happens():
        assert time.monotonic() < deadline, f"not in {seconds:g} s: {what() if callable(what) else what}"
        time.sleep(0.2)
