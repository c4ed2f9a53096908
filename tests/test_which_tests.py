"""Which tests CI runs for a change: what a script decides from git."""

import os
import re
import runpy
import shutil
import subprocess
import sys
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
        (["docs/slurm.md", "README.md"], "test SLOW=documents"),
        (
            ["train/evaluation/report/page.py", "tests/train/evaluation/test_report_page.py"],
            "test SLOW=damage,pairs,documents",
        ),
        (["docs/slurm.md", "train/runs/checkpoint.py"], "test-all"),
        (["slurm/lib.sh"], "test SLOW=slurm"),
        (
            ["audiovae/streaming/stream.py", "tests/audiovae/models/test_vae.py"],
            "test SLOW=export,pairs,documents",
        ),
        (["train/augment/effects.py"], "test SLOW=gpu,damage,pairs,documents"),
        (["benchmarks/faults/runner.py"], "test SLOW=faults"),
        (["benchmarks/speed/reading.py"], "test SLOW=gpu"),
        (["benchmarks/quality/plan.py"], "test SLOW=league"),
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
    (clone / ".github").mkdir()
    git(clone, "mv", "slurm/lib.sh", ".github/lib.sh")
    git(clone, "commit", "-qm", "Change")
    assert which(clone)[0] == "test SLOW=slurm"


def test_a_branch_is_compared_with_where_it_left_main(clone):
    git(clone, "switch", "-qc", "branch")
    commit(clone, "slurm/lib.sh")
    commit(clone, "CHANGELOG.md")
    assert which(clone)[0] == "test SLOW=slurm"
    assert which(clone, "HEAD~1")[0] == "test"
    (clone / "train").mkdir()
    (clone / "train" / "new.py").touch()
    assert which(clone, "HEAD~1")[0] == "test-all", "not yet committed"


def test_commits_on_main_itself_run_everything(clone):
    """The last of them may be harmless, and those before it not."""
    commit(clone, "slurm/lib.sh")
    commit(clone, "CHANGELOG.md")
    found, said = which(clone)
    assert found == "test-all"
    assert ".ci/all-passed names no commit" in said


def note(clone: Path, commit: str, path: str) -> subprocess.CompletedProcess:
    words = [sys.executable, ".ci/which-tests", "--note", commit]
    return subprocess.run(words, cwd=clone, capture_output=True, text=True, env={**os.environ, "PATH": path})


@pytest.fixture
def path(tmp_path, monkeypatch) -> str:
    """A PATH with the programs without which tests are skipped."""
    folder = tmp_path / "programs"
    folder.mkdir()
    for name in SOURCE["NEEDED"]:
        (folder / name).touch(mode=0o755)
    return f"{folder}:{os.environ['PATH']}"


def test_commits_on_main_are_compared_with_the_one_that_has_passed(clone, path):
    done = note(clone, git(clone, "rev-parse", "HEAD").strip(), path)
    assert "commit this file" in done.stdout, done.stderr
    commit(clone, "CHANGELOG.md")
    assert which(clone)[0] == "test"
    git(clone, "switch", "-qc", "branch")
    commit(clone, "slurm/lib.sh")
    git(clone, "switch", "-q", "main")
    git(clone, "merge", "-q", "--no-ff", "-m", "Merge", "branch")
    assert which(clone)[0] == "test SLOW=slurm"
    commit(clone, "train/new.py")
    assert which(clone)[0] == "test-all"


def test_only_the_commit_on_which_all_tests_have_run_is_noted(clone, path):
    began = git(clone, "rev-parse", "HEAD").strip()
    commit(clone, "CHANGELOG.md")
    (clone / "docs.md").touch()
    for given, problem in ((began, "another commit"), (git(clone, "rev-parse", "HEAD").strip(), "uncommitted changes")):
        done = note(clone, given, path)
        assert done.returncode == 1
        assert problem in done.stderr
    assert not (clone / ".ci" / "all-passed").exists()


def test_nothing_is_noted_where_tests_were_skipped_for_a_missing_program(monkeypatch):
    monkeypatch.setitem(SOURCE["note"].__globals__, "NEEDED", ("no-such-program",))
    assert "tests were skipped, as no-such-program is not installed" in SOURCE["note"]("HEAD")


@pytest.mark.parametrize(
    ("name", "problem"),
    [("0" * 40, "not in this clone"), ("no-commit", "not in this clone"), ("elsewhere", "not one before this one")],
)
def test_a_commit_that_main_does_not_hold_has_not_passed(clone, name, problem):
    git(clone, "switch", "-qc", "elsewhere")
    commit(clone, "docs/other.md")
    git(clone, "switch", "-q", "main")
    (clone / ".ci" / "all-passed").write_text(f"{name}\n")
    commit(clone, "CHANGELOG.md")
    found, said = which(clone)
    assert found == "test-all"
    assert problem in said


def test_areas_become_an_expression_for_pytest_and_unknown_ones_an_error():
    assert SOURCE["marks"]("") == "not slow"
    assert SOURCE["marks"]("slurm,gpu") == "not slow or slow(area='slurm') or slow(area='gpu')"
    done = subprocess.run([sys.executable, str(SCRIPT), "--marks", "slrum"], capture_output=True, text=True)
    assert done.returncode == 1
    assert "there is no area slrum" in done.stderr


def test_slow_tests_are_of_a_known_area_and_each_area_has_some():
    """A test of an unknown area would never run, except with all."""
    areas = {
        area
        for file in (ROOT / "tests").rglob("test_*.py")
        for area in re.findall(r"mark\.slow\(area=\"(\w+)\"\)", file.read_text())
    }
    assert areas == set(SOURCE["AREAS"])
    bare = [file for file in (ROOT / "tests").rglob("*.py") if re.search(r"mark\.slow\b(?!\(area=)", file.read_text())]
    assert bare == []


def test_a_change_of_a_file_with_slow_tests_runs_them():
    for file in (ROOT / "tests").rglob("test_*.py"):
        own = set(re.findall(r"mark\.slow\(area=\"(\w+)\"\)", file.read_text()))
        assert own <= SOURCE["areas_of"](str(file.relative_to(ROOT))), file


def test_each_pattern_is_of_a_path_that_is_there():
    files = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True).stdout.split()
    if not files:
        pytest.skip("not a git repository")
    found = {next((pattern for pattern, _ in SOURCE["PATHS"] if re.match(pattern, file)), "") for file in files}
    assert {pattern for pattern, _ in SOURCE["PATHS"]} - found == set()


def test_everything_runs_without_a_known_base(clone):
    found, said = which(clone)
    assert found == "test-all"
    assert ".ci/all-passed names no commit" in said
    assert "HEAD~1 is not in this clone" in which(clone, "HEAD~1")[1]
    commit(clone, "CHANGELOG.md")
    assert which(clone, "unknown")[0] == "test-all"
    assert "nothing differs" in which(clone, "HEAD")[1]
    shutil.rmtree(clone / ".git")
    assert which(clone)[0] == "test-all"
