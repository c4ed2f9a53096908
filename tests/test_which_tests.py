"""Which tests CI runs for a change: what a script decides from git."""

import re
import runpy
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / ".ci" / "which-tests"
SOURCE = runpy.run_path(str(SCRIPT))


@pytest.fixture
def clone(tmp_path) -> Path:
    """A repository with one commit that holds the script."""
    folder = tmp_path / "clone"
    (folder / ".ci").mkdir(parents=True)
    shutil.copy(SCRIPT, folder / ".ci")
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
        (["train/evaluation/report/page.py", "tests/train/evaluation/test_report_page.py"], "test SLOW=damage"),
        (["docs/slurm.md", "train/runs/checkpoint.py"], "test-all"),
        (["slurm/lib.sh"], "test SLOW=slurm"),
        (["audiovae/models/vae.py", "tests/audiovae/models/test_vae.py"], "test SLOW=export,gpu,zero"),
        (["benchmarks/faults/runner.py"], "test SLOW=faults"),
        (["benchmarks/speed/reading.py"], "test"),
        (["tests/slurm/test_jobs.py"], "test SLOW=slurm"),
        (["tests/train/conftest.py"], "test-all"),
        (["constraints.txt"], "test-all"),
        (["something/new.py"], "test-all"),
    ],
)
def test_slow_tests_are_left_out_where_no_file_matters_to_them(clone, changed, target):
    git(clone, "switch", "-qc", "branch")
    commit(clone, *changed)
    found, said = which(clone)
    areas = set(target.partition("=")[2].split(",")) - {""}
    assert set(found.partition("=")[2].split(",")) - {""} == areas
    assert found.partition("=")[0] == target.partition("=")[0]
    assert said.count("left out") == (0 if target == "test-all" else len(SOURCE["AREAS"]) - len(areas)), (
        "what is left out is named"
    )


def test_a_file_that_was_moved_matters_by_its_old_name_too(clone):
    commit(clone, "slurm/lib.sh")
    git(clone, "switch", "-qc", "branch")
    (clone / "docs").mkdir()
    git(clone, "mv", "slurm/lib.sh", "docs/lib.sh")
    git(clone, "commit", "-qm", "Change")
    assert which(clone)[0] == "test SLOW=slurm"


def test_a_branch_is_compared_with_where_it_left_main(clone):
    git(clone, "switch", "-qc", "branch")
    commit(clone, "slurm/lib.sh")
    commit(clone, "docs/slurm.md")
    assert which(clone)[0] == "test SLOW=slurm"
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


def test_commits_on_main_are_compared_with_the_one_that_has_passed(clone):
    assert "commit this file" in which(clone, "--note")[0]
    commit(clone, "docs/slurm.md")
    assert which(clone)[0] == "test"
    commit(clone, "slurm/lib.sh")
    assert which(clone)[0] == "test SLOW=slurm"
    commit(clone, "train/new.py")
    assert which(clone)[0] == "test-all"


def test_only_what_is_committed_can_have_passed(clone):
    (clone / "docs.md").touch()
    done = subprocess.run([".ci/which-tests", "--note"], cwd=clone, capture_output=True, text=True)
    assert done.returncode == 1
    assert "uncommitted changes" in done.stderr
    assert not (clone / ".ci" / "all-passed").exists()


@pytest.mark.parametrize("name", ["0" * 40, "not-a-commit", "elsewhere"])
def test_a_commit_that_main_does_not_hold_has_not_passed(clone, name):
    git(clone, "switch", "-qc", "elsewhere")
    commit(clone, "train/new.py")
    git(clone, "switch", "-q", "main")
    (clone / ".ci" / "all-passed").write_text(f"{name}\n")
    commit(clone, "docs/slurm.md")
    assert which(clone)[0] == "test-all"


@pytest.mark.parametrize(("changed", "target"), [("docs/slurm.md", "test"), ("slurm/lib.sh", "test SLOW=slurm")])
def test_a_merge_into_main_is_compared_with_main_before_it(clone, changed, target):
    git(clone, "switch", "-qc", "branch")
    commit(clone, changed)
    git(clone, "switch", "-q", "main")
    git(clone, "merge", "-q", "--no-ff", "-m", "Merge", "branch")
    assert which(clone)[0] == target


def test_slow_tests_are_of_a_known_area_and_each_area_has_some():
    """A test of an unknown area would never run, except with all."""
    areas = {
        area
        for file in (ROOT / "tests").rglob("test_*.py")
        for area in re.findall(r"mark\.slow\(area=\"(\w+)\"\)", file.read_text())
    }
    assert areas == set(SOURCE["AREAS"])
    bare = [file for file in (ROOT / "tests").rglob("*.py") if re.search(r"mark\.slow\b(?!\()", file.read_text())]
    assert [file.name for file in bare] == []


def test_each_pattern_is_of_a_path_that_is_there():
    files = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True).stdout.split()
    if not files:
        pytest.skip("not a git repository")
    found = {next((pattern for pattern, _ in SOURCE["PATHS"] if re.match(pattern, file)), "") for file in files}
    assert {pattern for pattern, _ in SOURCE["PATHS"]} - found == set()


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
