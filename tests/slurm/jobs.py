"""Training jobs of tiny models on the cluster, and what may befall them."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
from slurm_cluster import HOME, PATIENCE_S, Cluster, until

from tests import preloaded
from tests.train.conftest import flags, whole_lines

# No job of these tests reaches it: they are stopped when they have shown what they should.
ENDLESS = ["--optim.steps", "1000000", "--checkpoint.every", "5", "--tracking.evaluate_every", "1000000"]
ENDLESS += ["--tracking.every", "5"]
CPU = ["--gpus-per-node=0", "--cpus-per-task=1"]
OVER = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "PREEMPTED", "OUT_OF_MEMORY", "BOOT_FAIL")


@dataclass
class Job:
    """A job, its run and its log."""

    cluster: Cluster
    number: str
    run: Path
    log_file: Path

    @property
    def state(self) -> str:
        """Slurm's word."""
        return self.cluster.facts(self.number)["JobState"]

    @property
    def lives(self) -> int:
        """How often it was begun."""
        return int(self.cluster.facts(self.number)["Restarts"]) + 1

    @property
    def log(self) -> str:
        return self.log_file.read_text() if self.log_file.exists() else ""

    def told(self) -> str:
        """For messages of tests."""
        return f"{self.cluster.facts(self.number)}\n{self.log[-6000:]}"

    def over(self) -> str:
        """Waits for its end; returns the state."""
        until(lambda: self.state in OVER, self.told)
        return self.state

    def attempts(self, event: str = "started") -> list[dict]:
        """Lines of attempts.jsonl."""
        file = self.run / "attempts.jsonl"
        return [row for row in whole_lines(file) if row["event"] == event] if file.exists() else []

    def begun(self, attempt: int, steps: int = 0) -> None:
        """Waits until an attempt has made so many steps that a checkpoint of it is there, or just begun."""

        def there() -> bool:
            started = self.attempts()
            assert self.state not in OVER, self.told()
            return len(started) >= attempt and self.newest() >= started[attempt - 1]["step"] + steps

        until(there, self.told)

    def newest(self) -> int:
        """Step of the newest checkpoint."""
        return max((int(path.name[5:]) for path in self.run.glob("checkpoints/step-????????")), default=0)

    def processes(self, rank: int | None = None) -> list[psutil.Process]:
        """Its training processes, or without a rank what began it on each node, as this machine sees them."""
        found = []
        for process in psutil.process_iter(["cmdline"]):
            words = process.info["cmdline"] or []
            if str(self.run) not in words or "python" not in words[0]:
                continue
            is_launcher = any(word.endswith("accelerate") for word in words[:3]) or "build" in words[:4]
            try:
                mine = is_launcher if rank is None else process.environ().get("RANK") == str(rank) and not is_launcher
            except psutil.Error:
                continue
            if mine:
                found.append(process)
        return found

    def hit(self, number: signal.Signals, rank: int | None = None) -> None:
        """Sends a signal to one training process, or to the launcher."""
        (process,) = self.processes(rank)
        process.send_signal(number)

    def ends_in(self, seconds: int) -> None:
        """Sets its time limit. Slurm looks at limits every half minute; a job that is short from the start may be over
        before a busy machine has begun it.
        """
        self.cluster.inside("scontrol", "update", f"jobid={self.number}", f"endtime=now+{seconds}")

    def gets_an_hour(self) -> None:
        """Sets the time limit of a job that has one from its life before, or from the job that it continues."""
        self.cluster.inside("scontrol", "update", f"jobid={self.number}", "timelimit=60")

    @contextmanager
    def slowed(self) -> Iterator[None]:
        """Meanwhile its training processes stand still most of the time: waiting for a clock needs no core.

        They run freely once they are asked to stop, as a save must fit into the time that Slurm leaves them.
        """
        over = threading.Event()

        def send(processes: list[psutil.Process], number: signal.Signals) -> None:
            for process in processes:
                with suppress(psutil.NoSuchProcess):
                    process.send_signal(number)

        def hold() -> None:
            while not over.wait(0.1) and not (self.run / "STOP").exists():
                found = self.processes(0)
                send(found, signal.SIGSTOP)
                over.wait(0.9)
                send(found, signal.SIGCONT)

        thread = threading.Thread(target=hold)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def stop(self) -> None:
        """As a person does; the job must end."""
        (self.run / "STOP").touch()
        assert self.over() == "COMPLETED", self.told()

    def status(self) -> str:
        """What `python -m train status` prints."""
        process = preloaded.start("train", ["status", str(self.run)], self.cluster.env | {"COLUMNS": "200"})
        out, err = process.communicate(timeout=PATIENCE_S)
        assert process.returncode == 0, err
        return out

    def decisions(self) -> list[dict]:
        """Lines of jobs.jsonl."""
        return whole_lines(self.run / "jobs.jsonl")


@dataclass
class Desk:
    """Where a user sits: a folder, shards, and sbatch."""

    cluster: Cluster
    folder: Path
    hook: Path
    data: Path

    def sbatch(self, *words: object, **env: str) -> str:
        """Submits; returns the job's number."""
        env = {"AUDIO_TRAIN_HOME": str(HOME), "AUDIO_TRAIN_ENV": str(self.hook)} | env
        return self.cluster.inside("sbatch", "--parsable", *words, cwd=self.folder, **env).strip()

    def train(
        self,
        name: str,
        *more: object,
        slurm: list[str] = CPU,
        family: str = "vae",
        run: Path | None = None,
        data: Path | None = None,
        **env: str,
    ) -> Job:
        """A training job of its own run."""
        run = run or self.folder / "runs" / name
        words = flags(family, data or self.data, run, *map(str, more))[1:]
        number = self.sbatch("--job-name", name, *slurm, HOME / f"slurm/train_{family}.sh", *words, **env)
        return Job(self.cluster, number, run, self.folder / f"slurm-{name}-{number}.log")
