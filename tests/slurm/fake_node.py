"""A node for the batch scripts without Slurm: its commands and the programs are fakes on PATH."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

HOME = Path(__file__).resolve().parents[2]
SCRIPTS = sorted((HOME / "slurm").glob("*.sh"))
TRAIN = HOME / "slurm" / "train_hvae.sh"
SHARD = HOME / "slurm" / "shard.sh"
ENCODE = HOME / "slurm" / "encode.sh"

# Drops its own flags, as srun would, and runs the command as the first node.
FAKE_SRUN = """#!/bin/bash
printf '%s\\n' "$@" > "$FAKES/srun.args"
while [[ $1 == --* ]]; do shift; done
SLURM_NODEID=0 exec "$@"
"""

FAKE_SCONTROL = """#!/bin/bash
case "$*" in
    "show hostnames "*) printf 'first\\nsecond\\n' ;;
    *"show job "*)
        printf '%s\n' "JobId=7 JobName=a JobState=FAILED BatchFlag=0" "   JobState=${FAKE_STATE:-RUNNING} Reason=None" \
            "   Requeue=1 BatchFlag=1" \
            "   WorkDir=/a  \\"b\\" 'c' ü Restarts=9" "   Comment=JobState=FAILED Restarts=9" ;;
    "requeue "*) echo "$2" >> "$FAKES/requeued"; exit "${FAKE_REQUEUE_CODE:-0}" ;;
    *) echo "fake scontrol: $*" >&2; exit 64 ;;
esac
"""

FAKE_SBATCH = """#!/bin/bash
printf '%s\\n' "$@" > "$FAKES/sbatch.args"
echo 99
"""

# The program under its launcher: FAKE_MODE is how this attempt ends.
FAKE_ACCELERATE = """#!/bin/bash
printf '%s\\n' "$@" > "$FAKES/accelerate.args"
case $FAKE_MODE in
    encode_*)  # the launcher ignores TERM; what it starts does not
        mkdir -p "$OUT/.encode"
        touch "$OUT/.encode/encode.lease"
        [ $FAKE_MODE = encode_nothing ] || touch "$OUT/.encode/00000001.latents"
        [ $FAKE_MODE != encode_refused ] || echo "error: no model" > "$AUDIO_TRAIN_REFUSAL"
        [ $FAKE_MODE != encode_until_term ] || exec "$REAL_PYTHON" -c "import os, signal, time
signal.signal(signal.SIGTERM, signal.SIG_DFL)
open(os.environ['FAKES'] + '/ready', 'w')
time.sleep(100)"
        exit "${FAKE_CODE:-0}" ;;
esac
[ $FAKE_MODE = fail ] || echo '{"event": "started", "attempt": 1, "step": 0}' >> "$RUN/attempts.jsonl"
case $FAKE_MODE in
    done) touch "$RUN/DONE" ;;
    fail) exit 7 ;;
    stop)
        rm -f "$RUN/STOP"
        touch "$FAKES/ready"
        until [ -e "$RUN/STOP" ]; do sleep 0.02; done
        echo "step 3: STOP" > "$RUN/STOPPED"
        exit 0 ;;
    stopped_by_*) echo "step 3: ${FAKE_MODE#stopped_by_}" > "$RUN/STOPPED" ;;
    slow_start)   # the request comes before the program has begun and removed old requests
        touch "$FAKES/ready"
        until [ -e "$RUN/STOP" ]; do sleep 0.02; done
        rm "$RUN/STOP"
        until [ -e "$RUN/STOP" ]; do sleep 0.02; done
        echo "step 3: STOP" > "$RUN/STOPPED"
        exit 0 ;;
esac
"""

FAKE_PYTHON = """#!/bin/bash
[[ $2 != train.runs.requeue ]] || exec "$REAL_PYTHON" "$@"
printf '%s\\n' "$@" > "$FAKES/python.args"
case $FAKE_MODE in
    build_*)  # finishes something, or finishes nothing; a copied journal and a lease are no progress
        trap 'exit "${FAKE_CODE:-130}"' TERM
        mkdir -p "$OUT/.build/part-2"
        touch "$OUT/.build/plan.lease"
        echo '{"piece": {"row": 1, "offset": 5}}' > "$OUT/.build/part-2/journal"
        [ $FAKE_MODE = build_without_progress ] || echo '{"piece": {"row": 2}}' >> "$OUT/.build/part-2/journal"
        touch "$FAKES/ready"
        while :; do sleep 0.02; done ;;
esac
exit "${FAKE_CODE:-0}"
"""


class Node:
    """A folder of fakes, a run folder, and the environment Slurm would give a batch script."""

    def __init__(self, path: Path) -> None:
        self.fakes = path / "fakes"
        self.run_dir = path / "my run"
        self.run_dir.mkdir()
        (self.run_dir / "run.json").write_text("{}")
        self.fakes.mkdir()
        self.out = path / "my shards"
        programs = {"srun": FAKE_SRUN, "scontrol": FAKE_SCONTROL, "accelerate": FAKE_ACCELERATE, "python": FAKE_PYTHON}
        programs["sbatch"] = FAKE_SBATCH
        for name, text in programs.items():
            (self.fakes / name).write_text(text)
            (self.fakes / name).chmod(0o755)
        (path / "env.sh").write_text(f"PATH={self.fakes}:$PATH\n")
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("SLURM_", "AUDIO_TRAIN_"))}
        self.env = kept | {
            "FAKES": str(self.fakes),
            "RUN": str(self.run_dir),
            "OUT": str(self.out),
            "FAKE_MODE": "done",
            "REAL_PYTHON": sys.executable,
            "AUDIO_TRAIN_ENV": str(path / "env.sh"),
            "SLURM_SUBMIT_DIR": str(HOME),
            "SLURM_JOB_ID": "10007",
            "SLURM_JOB_NAME": "name",
            "SLURM_JOB_PARTITION": "main",
            "SLURM_JOB_NUM_NODES": "1",
            "SLURM_JOB_NODELIST": "n[1-2]",
            "PATH": f"{self.fakes}:{os.environ['PATH']}",
        }

    def start(self, *words: object, **env: str) -> subprocess.Popen:
        """Starts a script or a command."""
        return subprocess.Popen(
            [str(word) for word in words],
            env=self.env | env,
            cwd=self.fakes.parent,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def call(self, *words: object, **env: str) -> tuple[int, str, str]:
        """Exit code, output and errors of a script or a command."""
        process = self.start(*words, **env)
        out, err = process.communicate(timeout=1000)
        return process.returncode, out, err

    def library(self, commands: str, *words: object, **env: str) -> tuple[int, str, str]:
        """Runs commands with the library sourced; `words` are "$@"."""
        return self.call("bash", "-c", f'. "{HOME}/slurm/lib.sh"; {commands}', "test", *words, **env)

    def train(self, *words: object, **env: str) -> tuple[int, str, str]:
        """A whole train_hvae.sh."""
        return self.call("bash", TRAIN, "--data", "shards", "--run-dir", self.run_dir, *words, **env)

    def lines(self, name: str) -> list[str]:
        """What a fake wrote; empty when it was not called."""
        file = self.fakes / name
        return file.read_text().splitlines() if file.exists() else []

    def signalled(self, number: signal.Signals, *words: object, **env: str) -> tuple[int, str, str]:
        """A job, of training by default, that gets a signal when its program is ready."""
        words = words or (TRAIN, "--data", "shards", "--run-dir", self.run_dir)
        process = self.start("bash", *words, **env)
        deadline = time.monotonic() + 200
        while not (self.fakes / "ready").exists():
            assert time.monotonic() < deadline, "the fake program was not started"
            time.sleep(0.02)
        process.send_signal(number)
        out, err = process.communicate(timeout=1000)
        return process.returncode, out, err


def dry_run(node, flags: str, *words: object, script: Path = TRAIN) -> tuple[int, str, str]:
    env = {"AUDIO_TRAIN_ENV": "/dev/null", "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    for name in [name for name in node.env if name.startswith("SLURM_")]:
        del node.env[name]
    if script == TRAIN:
        words = ("--data", "my shards", "--run-dir", "runs/a", *words)
    return node.call("bash", script, f"--dry-run{flags}", *words, **env)
