"""The logic of the batch scripts without Slurm: its commands and the programs are fakes on PATH."""

import shutil
import signal
import subprocess
import wave

import pytest
from fake_node import HOME, SCRIPTS, SHARD, TRAIN, dry_run


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_bash_can_read_it(script):
    subprocess.run(["bash", "-n", str(script)], check=True)


@pytest.mark.slow(area="slurm")
@pytest.mark.skipif(not shutil.which("shellcheck"), reason="shellcheck is not installed")
def test_shellcheck_finds_nothing():
    found = subprocess.run(
        ["shellcheck", "-x", *(f"slurm/{script.name}" for script in SCRIPTS)], cwd=HOME, capture_output=True, text=True
    )
    assert found.returncode == 0, found.stdout


@pytest.mark.parametrize("family", ["vae", "hvae", "vqvae"])
def test_arguments_are_handed_on_unchanged(node, family):
    words = ["--data", "my shards", "--run-dir", str(node.run_dir), "--x", "", "a  b", "$HOME", "*", "it's"]
    code, _, err = node.call("bash", HOME / "slurm" / f"train_{family}.sh", *words)
    assert code == 0, err
    passed = node.lines("accelerate.args")
    assert passed[passed.index("-m") :] == ["-m", "train", family, *words]


def test_one_node_needs_no_network_name(node):
    node.train(SLURM_GPUS_ON_NODE="4", AUDIO_TRAIN_LAUNCH="--mixed_precision bf16")
    passed = " ".join(node.lines("accelerate.args"))
    assert "--num_machines 1 --num_processes 4" in passed
    assert "--main_process_port" not in passed  # any free one, by accelerate_config.yaml
    assert "--main_process_ip" not in passed
    assert "--mixed_precision bf16 -m train" in passed


def test_flags_of_the_launcher_may_hold_blanks(node):
    node.train(AUDIO_TRAIN_LAUNCH="""--config_file "my folder/it's.yaml" --zero_stage 2""")
    passed = node.lines("accelerate.args")
    assert passed[passed.index("--zero_stage") - 1] == "my folder/it's.yaml"
    code, _, err = node.train(AUDIO_TRAIN_LAUNCH='--config_file "my folder')
    assert (code, err) == (1, 'error: AUDIO_TRAIN_LAUNCH: a quote is missing in: --config_file "my folder\n')


def test_two_nodes_meet_at_the_first(node):
    node.train(SLURM_JOB_NUM_NODES="2", SLURM_GPUS_ON_NODE="4", SLURM_CPUS_PER_TASK="6")
    passed = " ".join(node.lines("accelerate.args"))
    assert "--machine_rank 0" in passed
    assert "--num_machines 2 --num_processes 8" in passed
    assert "--main_process_ip first --main_process_port 20007 --rdzv_backend static" in passed
    assert {"--nodes=2", "--ntasks=2", "--ntasks-per-node=1", "--cpus-per-task=6"} <= set(node.lines("srun.args"))


@pytest.mark.parametrize(
    ("env", "expected"),
    [
        ({}, "1"),
        ({"SLURM_GPUS_ON_NODE": "0"}, "1"),
        ({"SLURM_GPUS_ON_NODE": "8"}, "8"),
        ({"SLURM_GPUS_ON_NODE": "8", "AUDIO_TRAIN_PROCS": "2"}, "2"),
    ],
)
def test_processes_of_a_node(node, env, expected):
    assert node.library("procs_per_node", **env)[1].strip() == expected


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--data", "d", "--run-dir", "a b", "--x"], "a b"),
        (["--run-dir=a=b"], "a=b"),
        (["--run_dir", "r"], "r"),
        (["--run_dir=r"], "r"),
        (["--run-dir", "first", "--run-dir=last"], "last"),
        (["--run-dirs", "r"], ""),
        (["--run-dir"], ""),
    ],
)
def test_run_dir_is_found(node, words, expected):
    assert node.library('run_dir_of "$@"', *words)[1] == expected + "\n"


def test_job_name_of_an_array_task(node):
    assert node.library("job_name")[1] == "10007\n"
    task = {"SLURM_ARRAY_JOB_ID": "10007", "SLURM_ARRAY_TASK_ID": "3"}
    assert node.library("job_name", **task)[1] == "10007_3\n"


@pytest.mark.parametrize(
    ("name", "value"),
    [("JobState", "RUNNING"), ("BatchFlag", "1"), ("WorkDir", "/a  \"b\" 'c' ü Restarts=9"), ("Restarts", "")],
)
def test_facts_of_a_job_whose_names_hold_blanks(node, name, value):
    """A job's name, folder or comment that looks like another field is not taken for one."""
    _, out, err = node.library('fact "$1" "$(job_facts)"', name)
    assert (out.strip(), err) == (value, "")


@pytest.mark.parametrize(
    ("facts", "state"),
    [
        ("RUNNING PreemptTime=2026-11-28T18:00:00", ""),  # within GraceTime
        ("CANCELLED Restarts=0 PreemptTime=None", "CANCELLED, reason None"),
        ("COMPLETING Restarts=1 PreemptTime=2026-11-28T18:00:00", "requeued"),
        ("COMPLETING Restarts=0 PreemptTime=2026-11-28T18:00:00", "preempted"),
        ("CANCELLED Restarts=0 PreemptTime=2026-11-28T16:00:00", "CANCELLED, reason None"),  # in an earlier life
    ],
)
def test_what_slurm_does_with_the_job(node, facts, state):
    facts += " StartTime=2026-11-28T17:00:00"
    assert node.library("slurm_state_of_job", FAKE_STATE=facts)[1].strip() == state


def test_a_job_that_is_cancelled_for_a_more_urgent_one_continues_as_another(node):
    facts = "COMPLETING Restarts=0 StartTime=2026-11-28T17:00:00 PreemptTime=2026-11-28T18:00:00"
    _, _, err = node.signalled(signal.SIGTERM, FAKE_MODE="stop", FAKE_STATE=facts)
    assert "continues when this one has ended" in err
    assert node.lines("sbatch.args")
    assert not node.lines("requeued")


@pytest.mark.parametrize("number", [signal.SIGUSR2, signal.SIGTERM])
def test_signal_leads_to_stop_and_one_requeue(node, number):
    code, _, err = node.signalled(number, FAKE_MODE="stop")
    assert node.lines("requeued") == ["10007"]
    assert code == 0, err


def test_signal_before_the_program_has_begun_is_not_lost(node):
    code, _, err = node.signalled(signal.SIGUSR2, FAKE_MODE="slow_start")
    assert code == 0, err
    assert node.lines("requeued") == ["10007"]


def test_signal_leaves_a_folder_that_is_no_run_alone(node):
    (node.run_dir / "run.json").unlink()
    node.library('run_dir="$1"; ask_to_stop', node.run_dir)
    assert not list(node.run_dir.iterdir())


def test_a_failure_is_passed_on(node):
    code, _, err = node.train(FAKE_MODE="fail")
    assert code == 7
    assert "did not start (exit code 7)" in err
    assert not node.lines("requeued")


def test_tasks_of_an_array_have_arguments_of_their_own(node):
    task = {"SLURM_ARRAY_JOB_ID": "10007", "SLURM_ARRAY_TASK_ID": "3"}
    own = ["--run-dir", "runs/seed-%a", "--seed", "%a", "--config", "grid/%a.yaml"]
    node.call("bash", TRAIN, "--data", "shards", *own, **task)
    passed = node.lines("accelerate.args")
    assert passed[-6:] == ["--run-dir", "runs/seed-3", "--seed", "3", "--config", "grid/3.yaml"]


def test_tasks_of_an_array_may_not_share_a_run(node):
    code, out, err = node.train(SLURM_ARRAY_JOB_ID="10007", SLURM_ARRAY_TASK_ID="3")
    assert code != 0
    assert "put %a into --run-dir" in err
    assert len((out + err).splitlines()) == 1
    assert not node.lines("srun.args")


@pytest.mark.parametrize("given", [["--data.scratch", "/mine"], ["--data.scratch=/mine"], []])
def test_shards_go_to_the_nodes_own_disk(node, tmp_path, given):
    node.train(*given, SLURM_TMPDIR=str(tmp_path))
    passed = node.lines("accelerate.args")
    assert passed[-2:] == (
        ["--data.scratch", f"{tmp_path}/shards"] if not given else [*passed[-2 : -len(given)], *given]
    )


def test_a_container_comes_from_the_hook(node, tmp_path):
    hook = tmp_path / "hook.sh"
    hook.write_text(f"PATH={node.fakes}:$PATH\nrun_with=(env INSIDE=image)\nsrun_flags=(--container-image=x.sqsh)\n")
    node.train(AUDIO_TRAIN_ENV=str(hook))
    words = node.lines("srun.args")
    assert "--container-image=x.sqsh" in words


def test_dry_run_shows_what_would_run(node):
    """From anywhere, without a Slurm; the program looks at the arguments."""
    code, out, err = dry_run(node, "=-N 2 --gpus-per-node=a100:8", "--optim.steps", "5")
    assert code == 0, err
    assert f"sbatch -N 2 --gpus-per-node=a100:8 {TRAIN} --data my\\ shards --run-dir runs/a" in out
    assert "8 process(es) on each of 2 node(s)" in out
    assert "--num_machines 2 --num_processes 16 --main_process_ip FIRST_NODE --main_process_port PORT" in out
    assert "accepts these arguments" in out
    assert not node.lines("accelerate.args")


def test_dry_run_finds_a_wrong_flag_before_the_queue(node):
    code, out, err = dry_run(node, "", "--optim.ly", "5")
    assert code != 0
    assert "did you mean --optim.lr" in err
    assert "1 process(es) on each of 1 node(s)" in out


@pytest.mark.parametrize("script", ["train_vae.sh", "shard.sh"])
def test_dry_run_works_without_an_environment(node, tmp_path, script):
    """On a machine without the project's .venv it shows what would run and says that the arguments are unchecked."""
    project = tmp_path / "project"
    shutil.copytree(HOME / "slurm", project / "slurm")
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("bash", "dirname", "sed"):
        (tools / name).symlink_to(shutil.which(name))
    env = {"AUDIO_TRAIN_HOME": str(project), "AUDIO_TRAIN_ENV": "", "PATH": str(tools)}
    words = ["audio", "out"] if script == "shard.sh" else ["--data", "d", "--run-dir", "r"]
    code, out, err = node.call("bash", project / "slurm" / script, "--dry-run=--account lab", *words, **env)
    assert (code, err) == (0, "")
    assert f"sbatch --account lab {project}/slurm/{script} {' '.join(words)}" in out
    assert f"the arguments were not checked: no Python environment here (make {project}/.venv" in out
    assert "accepts these arguments" not in out


@pytest.mark.parametrize("script", [TRAIN, SHARD])
def test_outside_of_a_job_it_says_what_to_do(node, script):
    code, out, err = node.call("bash", script, "--run-dir", "runs/a", SLURM_JOB_ID="")
    assert code != 0
    assert "this is a batch script; submit it: sbatch" in err
    assert len((out + err).splitlines()) == 1


def test_missing_run_dir_is_one_line(node):
    code, out, err = node.call("bash", TRAIN, "--data", "shards")
    assert code != 0
    assert "--run-dir is missing" in err
    assert len((out + err).splitlines()) == 1
    assert not node.lines("srun.args")


@pytest.mark.parametrize("script", ["train_hvae.sh", "shard.sh"])
def test_missing_project_is_one_line(node, tmp_path, script):
    code, out, err = node.call("bash", HOME / "slurm" / script, SLURM_SUBMIT_DIR=str(tmp_path))
    assert code != 0
    assert "AUDIO_TRAIN_HOME" in err
    assert len((out + err).splitlines()) == 1


def test_project_elsewhere_is_found_by_its_variable(node, tmp_path):
    code, _, err = node.train(SLURM_SUBMIT_DIR=str(tmp_path), AUDIO_TRAIN_HOME=str(HOME))
    assert code == 0, err


def test_missing_environment_is_one_line(node):
    code, out, err = node.train(AUDIO_TRAIN_ENV="/nowhere/env.sh")
    assert code != 0
    assert len((out + err).splitlines()) == 1


def test_no_environment_at_all_is_one_line(node, tmp_path):
    project = tmp_path / "project"
    shutil.copytree(HOME / "slurm", project / "slurm")
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("bash", "dirname"):
        (tools / name).symlink_to(shutil.which(name))
    code, out, err = node.train(AUDIO_TRAIN_HOME=str(project), AUDIO_TRAIN_ENV="", PATH=str(tools))
    assert code != 0
    assert ".venv" in err
    assert len((out + err).splitlines()) == 1


def test_shards_are_built_with_the_cpus_of_the_task(node):
    code, _, err = node.call("bash", SHARD, "my audio", "out", "--hop", "1", SLURM_CPUS_PER_TASK="6")
    assert code == 0, err
    assert node.lines("python.args") == ["-m", "shards", "build", "--workers", "6", "my audio", "out", "--hop", "1"]


def array(task: int, count: int, first: int = 1, step: int = 1) -> dict[str, str]:
    """Slurm's variables of a task of an array."""
    values = {"ID": task, "MIN": first, "MAX": first + (count - 1) * step, "STEP": step, "COUNT": count}
    return {f"SLURM_ARRAY_TASK_{name}": str(value) for name, value in values.items()}


@pytest.mark.parametrize(
    ("env", "share"),
    [
        (array(3, 16), "3/16"),
        (array(0, 16, first=0), "1/16"),
        (array(15, 16, first=0), "16/16"),
        (array(9, 3, first=1, step=4), "3/3"),
        (array(7, 1, first=7), "1/1"),
    ],
)
def test_a_task_of_an_array_builds_its_share(node, env, share):
    code, _, err = node.call("bash", SHARD, "my audio", "out", SLURM_CPUS_PER_TASK="6", **env)
    assert code == 0, err
    flags = ["--workers", "6", "--task", share]
    assert node.lines("python.args") == ["-m", "shards", "build", *flags, "my audio", "out"]


def test_an_array_with_gaps_is_refused(node):
    env = array(3, 2) | {"SLURM_ARRAY_TASK_MAX": "7"}
    code, out, err = node.call("bash", SHARD, "audio", "out", **env)
    assert code != 0
    assert "use --array=1-N" in err
    assert len((out + err).splitlines()) == 1
    assert not node.lines("python.args")


@pytest.mark.parametrize("script_flags", ["", "=--array=1-4 -c 3"])
def test_dry_run_of_a_build(node, tmp_path, script_flags):
    """The program looks at the arguments and the files; nothing is written."""
    (tmp_path / "my audio").mkdir()
    with wave.open(str(tmp_path / "my audio" / "a.wav"), "wb") as file:
        file.setparams((1, 2, 22050, 0, "NONE", ""))
        file.writeframes(bytes(44100))
    code, out, err = dry_run(node, script_flags, "my audio", "new/out", "--hop", "9", script=SHARD)
    assert code == 0, err
    assert f"sbatch {script_flags[1:]} {SHARD} my\\ audio new/out --hop 9".replace("  ", " ") in out
    assert "  --signal=B:USR2@60\n" in out
    flags = "--workers 3 --task TASK/TASKS" if script_flags else "--workers 16"
    assert f"-m shards build {flags} my\\ audio new/out --hop 9" in out
    assert "accepts these arguments" in out
    assert not (tmp_path / "new").exists()
    _, out, _ = dry_run(node, script_flags, "my audio", "new/out", "--workers", "2", script=SHARD)
    assert out.count("--workers") == 2  # as it was given: in the line of sbatch, and in the command


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nowhere", "out"], "error: nowhere is not a folder"),
        ([".", "/nowhere/out", "--hop", "99999"], "error: --hop must be between"),
        ([".", "/nowhere/out", "--hopp", "1"], "--hopp"),
    ],
)
def test_dry_run_finds_what_a_build_would_refuse(node, words, message):
    code, out, err = dry_run(node, "", *words, script=SHARD)
    assert code != 0
    assert message in err
    assert "accepts these arguments" not in out


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["a", "out dir", "--hop", "1"], "out dir"),
        (["--hop", "1", "a", "--strict", "--task=1/2", "out"], "out"),
        (["--join-short", "a", "--valid_within", "--split-by-folder", "out", "--reread"], "out"),
        (["a"], ""),
        (["a", "--hop"], ""),
    ],
)
def test_out_dir_is_found(node, words, expected):
    assert node.library('place_of 2 "$@"', *words)[1] == expected + "\n"


def stopped_build(node, number: signal.Signals = signal.SIGUSR2, **env: str) -> tuple[int, str, str]:
    """A build that has taken over one recording and finished another, and is stopped."""
    journal = node.out / ".build" / "part-1" / "journal"
    journal.parent.mkdir(parents=True)
    journal.write_text('{"piece": {"row": 1, "offset": 0}}\n')
    return node.signalled(number, SHARD, "my audio", node.out, **({"FAKE_MODE": "build_on"} | env))


@pytest.mark.parametrize("number", [signal.SIGUSR2, signal.SIGTERM])
def test_a_stopped_build_is_requeued(node, number):
    code, _, err = stopped_build(node, number)
    assert code == 130, "a job that waits by afterok must not begin"
    assert node.lines("requeued") == ["10007"]
    assert f"the build was stopped by {number.name[3:]}; requeueing job 10007" in err


def test_a_stopped_task_of_an_array_is_requeued_alone(node):
    stopped_build(node, SLURM_ARRAY_JOB_ID="10007", **array(3, 16))
    assert node.lines("requeued") == ["10007_3"]


@pytest.mark.parametrize(
    "env",
    [
        {"FAKE_REQUEUE_CODE": "1"},
        {"AUDIO_TRAIN_AGAIN": "submit"},
        {"FAKE_STATE": "TIMEOUT Restarts=0 Reason=TimeLimit"},  # too late for requeueing
        {"FAKE_STATE": "CANCELLED Restarts=0 StartTime=2026-11-28T17 PreemptTime=2026-11-28T18"},  # so is this
    ],
)
def test_another_job_does_the_same_share(node, env):
    """Alone its array would look like the whole work."""
    code, _, err = stopped_build(node, SLURM_ARRAY_JOB_ID="10007", **array(3, 16), **env)
    words = node.lines("sbatch.args")
    assert {"--dependency=afterany:10007_3", "--array=3"} <= set(words), err
    assert words[-5:] == [str(SHARD), "my audio", str(node.out), "--task", "3/16"]
    assert "job 99 continues when this one has ended" in err
    assert code == 130
    node.call("bash", SHARD, *words[-4:], **array(3, 1, first=3))
    assert node.lines("python.args")[3:] == ["--workers", "1", *words[-4:]]


@pytest.mark.parametrize(
    ("env", "message"),
    [
        (
            {"FAKE_MODE": "build_without_progress"},
            "before it had finished anything, and a restart would not get further",
        ),
        (
            {"FAKE_STATE": "CANCELLED Restarts=0"},
            "Slurm ended the job (CANCELLED, reason None); run sbatch again to resume",
        ),
        ({"FAKE_STATE": "COMPLETING Restarts=1"}, "stopped by TERM"),  # Slurm has requeued it
        ({"AUDIO_TRAIN_AGAIN": "no"}, "the next job of the chain continues"),
    ],
)
def test_a_stopped_build_that_is_not_requeued(node, env, message):
    code, _, err = stopped_build(node, signal.SIGTERM, **env)
    assert code == 130
    assert message in err
    assert len(err.splitlines()) == 1
    assert not node.lines("requeued")
    assert not node.lines("sbatch.args")


def test_a_failing_build_passes_on_its_exit_code(node):
    code, _, err = node.call("bash", SHARD, "audio", node.out, FAKE_CODE="7")
    assert (code, err) == (7, "")
    assert not node.lines("requeued")


@pytest.mark.parametrize("result", [0, 1])
def test_a_build_that_ends_by_itself_after_a_signal_is_not_requeued(node, result):
    code, _, err = stopped_build(node, FAKE_CODE=str(result))
    assert (code, err) == (result, "")
    assert not node.lines("requeued")
