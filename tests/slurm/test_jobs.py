"""What befalls training jobs, and what becomes of them, on a real Slurm. The scenarios run beside each other."""

import shutil
import signal
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from beside import beside
from jobs import CPU, ENDLESS, Desk
from slurm_cluster import HOME, until

pytestmark = pytest.mark.slow(area="slurm")


@beside
def test_killed_rank_and_launcher(desk: Desk):
    """A process is killed, then the launcher: the job goes on from the newest checkpoint, and status tells it."""
    job = desk.train("killed-rank", *ENDLESS, AUDIO_TRAIN_PROCS="2")
    job.begun(1, steps=5)
    job.hit(signal.SIGKILL, rank=1)
    job.begun(2, steps=5)
    assert job.attempts()[1]["step"] >= 5
    job.hit(signal.SIGKILL)
    job.begun(3, steps=5)
    assert job.attempts()[2]["step"] > job.attempts()[1]["step"]
    job.stop()
    assert job.lives == 3
    assert "exit code 1" in job.decisions()[0]["why"]
    told = job.status()
    assert "killed" in told
    assert "saved and stopped as requested" in told


@beside
def test_crashes_without_progress(desk: Desk):
    """Three attempts that leave no checkpoint end the job."""
    job = desk.train("no-progress", *ENDLESS, "--checkpoint.every", "1000000")
    for life in (1, 2, 3):
        job.begun(life)
        job.hit(signal.SIGKILL, rank=0)
    assert job.over() == "FAILED"
    assert job.lives == 3
    assert "3 attempts in a row ended without a new checkpoint" in job.log.splitlines()[-1]
    assert "3 attempts in a row ended without a new checkpoint" in job.status()


@beside
def test_hanging_rank(desk: Desk):
    """A process that stands still ends the attempt after `watchdog_s`; the job goes on."""
    job = desk.train("hanging", *ENDLESS, "--watchdog_s", "6", AUDIO_TRAIN_PROCS="2")
    job.begun(1, steps=5)
    job.hit(signal.SIGSTOP, rank=1)
    job.begun(2, steps=5)
    job.stop()
    assert job.lives == 2
    assert "no progress for 6 s" in job.status()


@beside
def test_scancel(desk: Desk):
    """The run is saved; the job is not requeued."""
    job = desk.train("scancel", *ENDLESS)
    job.begun(1, steps=5)
    desk.cluster.inside("scancel", job.number)
    assert job.over() == "CANCELLED"
    assert job.lives == 1
    until(lambda: job.attempts("ended"), job.told)
    # Slurm's signal and the STOP file of the batch script arrive in any order.
    assert any(word in job.attempts("ended")[0]["reason"] for word in ("SIGTERM", "STOP"))
    until(lambda: "slurm: Slurm ended the job" in job.log, job.told)
    assert "Traceback" not in job.log, "the launcher waits for its processes, without a traceback for the signal"
    assert "stopped" in job.status()


@beside
def test_preemption(desk: Desk):
    """A more urgent job takes the node: the run is saved, waits, and goes on."""
    job = desk.train("preempted", *ENDLESS, slurm=[*CPU, "--partition=low", "--nodelist=n1"])
    job.begun(1, steps=5)
    urgent = desk.sbatch("--partition=high", "--nodelist=n1", "--exclusive", "--wrap", "sleep 3")
    until(lambda: desk.cluster.facts(urgent)["JobState"] == "COMPLETED", job.told)
    job.begun(2, steps=5)
    ended = job.attempts("ended")[0]
    assert job.attempts()[1]["step"] == ended["step"], "steps were lost"
    job.stop()
    assert job.lives == 2
    assert ended["reason"] in job.status()


@beside
def test_preemption_that_cancels(desk: Desk):
    """Slurm cancels the job for a more urgent one, with no more time than KillWait: it goes on as another job."""
    job = desk.train("cancelled", *ENDLESS, slurm=[*CPU, "--partition=cheap", "--nodelist=n2"])
    job.begun(1, steps=5)
    urgent = desk.sbatch("--partition=high", "--nodelist=n2", "--exclusive", "--wrap", "sleep 3")
    until(lambda: desk.cluster.facts(urgent)["JobState"] == "COMPLETED", job.told)
    until(lambda: len(job.attempts()) == 2, job.told)
    ended = job.attempts("ended")[0]
    assert job.attempts()[1]["step"] == ended["step"], "steps were lost"
    (job.run / "STOP").touch()
    until(lambda: len(job.attempts("ended")) == 2, job.told)
    assert "continues when this one has ended" in job.log
    assert job.lives == 1


@beside
def test_environments_that_are_not_exported(desk: Desk):
    """Whatever part of the user's environment Slurm hands on, the launcher gets that of the script.

    A stand-in for the launcher notes where it and Python are found, and the folder of the packages.
    """
    programs = desk.folder / "programs"
    programs.mkdir()
    noting = f'printf "%s\\n" "$(command -v accelerate python)" "$PYTHONPATH" "$*" > "{programs}/$SLURM_JOB_ID"'
    (programs / "accelerate").write_text(f"#!/bin/bash\n{noting}\n")
    (programs / "accelerate").chmod(0o755)
    hook = programs / "env.sh"
    hook.write_text(f"PATH={programs}:{Path(sys.executable).parent}:$PATH\n")
    project = desk.folder / "project"  # without the user's variables, the script looks where sbatch was called
    (project / ".venv" / "bin").mkdir(parents=True)
    shutil.copy(hook, project / ".venv" / "bin" / "activate")
    for path in HOME.glob("[a-z]*"):
        (project / path.name).symlink_to(path)
    named = ["--export=AUDIO_TRAIN_HOME,AUDIO_TRAIN_ENV"]
    desk = replace(desk, hook=hook)
    jobs = [
        (HOME, desk.train("export-list", slurm=[*CPU, *named])),
        (HOME, desk.train("export-srun", slurm=CPU, SLURM_EXPORT_ENV="NONE")),
        (project, replace(desk, folder=project).train("export-none", slurm=CPU, SBATCH_EXPORT="NONE")),
    ]
    for home, job in jobs:
        assert job.over() == "COMPLETED", job.told()
        accelerate, python, packages, words = (programs / job.number).read_text().splitlines()
        assert (accelerate, python) == (str(programs / "accelerate"), str(Path(sys.executable).parent / "python"))
        assert packages.split(":")[0] == str(home)
        assert f"-m train vae --data {desk.data} --run-dir {job.run}" in words


@beside
def test_dying_nodes(desk: Desk):
    """First a node dies on which the batch script does not run, then the one on which it does."""
    job = desk.train("dying-nodes", *ENDLESS, slurm=["--partition=frail", "--nodes=2", *CPU])
    for life, node in enumerate(("n8", "n7"), 1):
        job.begun(life, steps=5)
        desk.cluster.order("node", "crash", node)
        until(lambda life=life: job.lives > life, job.told)
        desk.cluster.order("node", "start", node)
    job.begun(3, steps=5)
    assert job.attempts()[2]["step"] >= 10
    job.stop()
    assert "Slurm has requeued the job" in job.decisions()[0]["why"]
    assert "killed" in job.status()


@beside
def test_requeueing_refused(desk: Desk):
    """Where the cluster forbids it another job goes on, with the same arguments, nodes and log.

    The folders and the job have names with blanks, quotes, other alphabets, and what Slurm reads as a pattern or prints
    as a field.
    """
    odd = desk.folder / "a \"b\"  'c' ü JobState=FAILED 100%"
    odd.mkdir()
    for path in HOME.glob("[a-z]*"):
        (odd / path.name).symlink_to(path)
    name = 'refusé  "it\'s" JobState=FAILED'
    more = [*ENDLESS, "--tracking.name", "ü 'x'"]
    slurm = ["--no-requeue", "--nodes=1", "--time=7", "--comment=BatchFlag=0", *CPU]
    job = replace(desk, folder=odd).train(name, *more, slurm=slurm, AUDIO_TRAIN_HOME=str(odd))
    job.begun(1, steps=5)
    desk.cluster.inside("scancel", "--batch", "--signal=USR2", job.number)
    assert job.over() == "COMPLETED", job.told()
    job.number = desk.cluster.inside("squeue", "-h", f"--name={name}", "-o", "%i").strip()
    job.begun(2, steps=5)
    assert job.attempts()[1]["step"] == job.attempts("ended")[0]["step"]
    assert desk.cluster.facts(job.number)["TimeLimit"] == "00:07:00"
    job.stop()
    assert "continues when this one has ended" in job.log
    assert job.log.count("M parameters") == 2, "both jobs write the same log"
    assert [path.name for path in odd.glob("*.log")] == [job.log_file.name]


@beside
def test_chain(desk: Desk):
    """Jobs submitted beforehand, one after the other; what is left of them once the run is done ends at once."""
    more = ["--optim.steps", "400", "--checkpoint.every", "400"]
    slurm = ["--dependency=singleton", *CPU]
    jobs = [desk.train("chain", *more, slurm=slurm, AUDIO_TRAIN_AGAIN="no") for _ in range(3)]
    jobs[0].begun(1)
    desk.cluster.inside("scancel", "--batch", "--signal=USR2", jobs[0].number)
    for job in jobs:
        assert job.over() == "COMPLETED"
        assert job.lives == 1
    assert len(jobs[0].attempts()) == 2
    assert "the next job of the chain continues" in jobs[0].log
    assert "finished already" in jobs[2].log


@beside
def test_full_disk(desk: Desk):
    """A save fails, the next attempt refuses to begin, and with some room again nothing but the last steps is lost."""
    small, inside = desk.cluster.small, desk.cluster.inside
    job = desk.train("full", *ENDLESS, run=small / "run")

    def newest() -> int:
        there = inside("find", small, "-path", "*/run/checkpoints/step-????????", check=False).split()
        return max((int(path[-8:]) for path in there), default=0)

    until(lambda: newest() >= 10, job.told)
    inside("dd", "if=/dev/zero", f"of={small}/ballast", "bs=1M", check=False)
    assert job.over() == "FAILED", job.told()
    kept = newest()
    lines = job.log.splitlines()
    assert sum("cannot be saved" in line for line in lines) >= 1
    assert "the program could not start" in lines[-1]
    assert "MB free, but the checkpoints to keep take" in lines[-1]
    assert job.lives == 2
    inside("rm", small / "ballast")
    again = desk.train("full-again", *ENDLESS, run=small / "run")
    until(lambda: newest() > kept, again.told)
    inside("touch", small / "run/STOP")
    assert again.over() == "COMPLETED"
    assert f"from step {kept};" in again.log
