"""The cluster as tests see it."""

import os
import re
import shutil
import subprocess
import time
from pathlib import Path

HOME = Path(__file__).resolve().parents[2]
CLUSTER = Path(__file__).parent / "cluster"
PROGRAMS = ("slurmctld", "slurmd", "sbatch")


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

    def order(self, *words: object) -> subprocess.CompletedProcess:
        """`cluster WORDS`, which must not fail."""
        return self._call([str(CLUSTER), *map(str, words)], self.env)

    def inside(self, *words: object, check: bool = True, cwd: Path | None = None, **env: str) -> str:
        """What a command on the login host prints."""
        return self._call([str(CLUSTER), "in", *map(str, words)], self.env | env, check, cwd).stdout

    def _call(self, words, env, check=True, cwd=None) -> subprocess.CompletedProcess:
        done = subprocess.run(words, env=env, cwd=cwd, capture_output=True, text=True, timeout=120, check=False)
        assert not check or done.returncode == 0, f"{words}: {done.stderr}"
        return done

    def facts(self, job: str) -> dict[str, str]:
        """What `scontrol show job` says."""
        return dict(re.findall(r"(\S+?)=(\S*)", self.inside("scontrol", "--oneliner", "show", "job", job)))


def until(happens, what: str, seconds: float = 120.0) -> None:
    """Waits for something; fails with `what` when it does not happen in time."""
    deadline = time.monotonic() + seconds
    while not happens():
        assert time.monotonic() < deadline, f"not in {seconds:g} s: {what() if callable(what) else what}"
        time.sleep(0.2)
