"""Which tests CI runs for a change: what a script of bash decides from git."""

import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / ".ci" / "which-tests"


@pytest.fixture
def clone(tmp_path) -> Path:
    """A repository with one commit that holds the script and a marked test."""
    folder = tmp_path / "clone"
    (folder / ".ci").mkdir(parents=True)
    shutil.copy(SCRIPT, folder / ".ci")
    (folder / "tests").mkdir()
    (folder / "tests" / "test_long.py").write_text("pytestmark = pytest.mark.slow\n")
    git(folder, "init", "-q", "-b", "main")
    commit(folder)
    return folder


def git(folder: Path, *words: str) -> str:
    author = ["-c", "user.name=nobody", "-c", "user.email=nobody@localhost"]
    return subprocess.run(["git", *author, *words], cwd=folder, check=True, capture_output=True, text=True).stdout


def commit(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"{name}\n")
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "Change")


def which(folder: Path, *words: str) -> tuple[str, str]:
    done = subprocess.run([".ci/which-tests", *words], cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout.strip(), done.stderr


@pytest.mark.parametrize(
    ("changed", "target"),
    [
        (["docs/slurm.md", "README.md"], "test"),
        (["train/evaluation/report/page.py", "tests/train/evaluation/test_report_page.py"], "test"),
        (["docs/slurm.md", "train/runs/checkpoint.py"], "test-all"),
        (["slurm/lib.sh"], "test-all"),
        (["benchmarks/faults/runner.py"], "test-all"),
        (["benchmarks/speed/reading.py"], "test"),
        (["tests/slurm/test_jobs.py"], "test-all"),
        (["tests/train/conftest.py"], "test-all"),
        (["constraints.txt"], "test-all"),
        (["something/new.py"], "test-all"),
    ],
)
def test_slow_tests_are_left_out_where_no_file_matters_to_them(clone, changed, target):
    git(clone, "switch", "-qc", "branch")
    commit(clone, *changed)
    found, said = which(clone)
    assert found == target
    assert ("tests/test_long.py" in said) == (target == "test"), "what is left out is named"


def test_a_branch_is_compared_with_where_it_left_main(clone):
    git(clone, "switch", "-qc", "branch")
    commit(clone, "slurm/lib.sh")
    commit(clone, "docs/slurm.md")
    assert which(clone)[0] == "test-all"
    assert which(clone, "HEAD~1")[0] == "test"
    (clone / "train").mkdir()
    (clone / "train" / "new.py").touch()
    assert which(clone, "HEAD~1")[0] == "test-all", "not yet committed"


def test_commits_on_main_itself_run_everything(clone):
    """The last of them may be harmless, and those before it not."""
    commit(clone, "slurm/lib.sh")
    commit(clone, "docs/slurm.md")
    found, said = which(clone)
    assert found == "test-all"
    assert "main does not say where this change began" in said


@pytest.mark.parametrize(("changed", "target"), [("docs/slurm.md", "test"), ("slurm/lib.sh", "test-all")])
def test_a_merge_into_main_is_compared_with_main_before_it(clone, changed, target):
    git(clone, "switch", "-qc", "branch")
    commit(clone, changed)
    git(clone, "switch", "-q", "main")
    git(clone, "merge", "-q", "--no-ff", "-m", "Merge", "branch")
    assert which(clone)[0] == target


def test_everything_runs_where_it_cannot_tell(clone):
    found, said = which(clone)
    assert found == "test-all"
    assert "main does not say where this change began" in said
    assert "HEAD~1 is not in this clone" in which(clone, "HEAD~1")[1]
    commit(clone, "docs/slurm.md")
    assert which(clone, "unknown")[0] == "test-all"
    assert "nothing differs" in which(clone, "HEAD")[1]
    shutil.rmtree(clone / ".git")
    assert which(clone)[0] == "test-all"
