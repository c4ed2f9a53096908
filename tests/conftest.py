"""What all tests share: how they are spread over the workers of pytest-xdist, and things that are made once for all."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock
from hypothesis import settings

# A thread of OpenMP that waits for another one keeps its core busy. With several tests on few cores that multiplies
# the time of each; the results are the same. Before torch is imported, and inherited by every process of every test.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

# A time limit for each example would make tests fail on a busy machine.
settings.register_profile("project", deadline=None)
settings.load_profile("project")

# With several workers these begin first, the longest of all at the front: what is long at the end leaves cores idle.
LONG = (
    "test_faults",
    "test_run",
    "test_verify_resume",
    "test_wandb_online",
    "test_tutorial",
    "test_readme",
    "test_compile",
    "test_tracking",
    "test_parallel",
    "test_watchdog",
    "test_which_samples",
    "test_console",
    "test_compare",
    "test_report_page",
    "test_evaluate",
    "test_scripts",
)


def group_of(item: pytest.Item) -> str:
    """Tests of one group run in one worker.

    Those of the cluster share one Slurm. A file stays together for what its tests share, but for the files of LONG:
    there each test is a group of its own, unless it needs a fixture that its module makes once.
    """
    if "cluster" in item.fixturenames:
        return "cluster"
    made_once = any(definitions[-1].scope == "module" for definitions in item._fixtureinfo.name2fixturedefs.values())
    file = item.path.stem
    return file if made_once or file not in LONG else f"{file}-{item.name}"


def place(item: pytest.Item) -> int:
    """Where an item stands in the queue of the workers."""
    if "cluster" in item.fixturenames:
        return -1
    file = item.path.stem
    return LONG.index(file) if file in LONG else len(LONG)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not hasattr(config, "workerinput"):
        return
    for item in items:
        item.add_marker(pytest.mark.xdist_group(group_of(item)))
    items.sort(key=place)


@pytest.fixture(scope="session")
def once(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, Callable[[Path], None]], Path]:
    """once(name, make) -> the folder that `make` has filled, by whichever worker came first; read it only."""
    base = tmp_path_factory.getbasetemp()
    base = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base

    def folder_of(name: str, make: Callable[[Path], None]) -> Path:
        folder = base / "once" / name
        folder.parent.mkdir(exist_ok=True)
        with FileLock(f"{folder}.lock"):
            if not (done := Path(f"{folder}.done")).exists():
                shutil.rmtree(folder, ignore_errors=True)  # of a worker that died on the way
                folder.mkdir()
                make(folder)
                done.touch()
        return folder

    return folder_of


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """How long each scenario on the cluster took: they run beside each other, and a test only waits for its own."""
    took = {
        report.nodeid: seconds
        for reports in terminalreporter.stats.values()
        for report in reports
        for name, seconds in getattr(report, "user_properties", [])
        if name == "seconds" and report.when == "call"
    }
    for name, seconds in sorted(took.items(), key=lambda item: -item[1]):
        terminalreporter.write_line(f"{seconds:6.1f}s {name}")
