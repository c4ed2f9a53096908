"""What all tests share: how they are spread over the workers of pytest-xdist, and things that are made once for all."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from hypothesis import settings

# A thread of OpenMP that waits for another one keeps its core busy. With several tests on few cores that multiplies
# the time of each; the results are the same. Before torch is imported, and inherited by every process of every test.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
# As the commands do, for tests that compare what the library and a command compute.
os.environ.setdefault("MKL_CBWR", "AUTO")

# A time limit for each example would make tests fail on a busy machine.
settings.register_profile("project", deadline=None)
settings.load_profile("project")

# The order in which several workers begin files: long ones first, as what is long at the end leaves cores idle.
LONG = (
    "test_run",
    "test_verify_resume",
    "test_wandb_online",
    "test_tutorial",
    "test_readme",
    "test_compile",
    "test_tracking",
    "test_parallel",
    "test_gpu",
    "test_failing_build",
    "test_stopping",
    "test_mutations",
    "test_received_pipes",
    "test_export",
    "test_watchdog",
    "test_which_samples",
    "test_console",
    "test_compare",
    "test_report_page",
    "test_before_phase",
    "test_evaluate",
    "test_prior_run",
    "test_data_sets",
    "test_augmented_run",
    "test_causal_streams",
    "test_export_stream",
    "test_python_snippets",
    "test_encode",
    "test_scripts",
)
# Files whose tests share nothing that takes long to make: each of them may run in another worker.
APART = ("test_run", "test_wandb_online", "test_compile", "test_tracking", "test_watchdog", "test_evaluate", "test_gpu")
# They share one Slurm, which is started once. Fault injection follows in the same worker: beside six jobs on the same
# cores it takes six times as long.
CLUSTER = ("test_cluster", "test_jobs", "test_runs", "test_shards", "test_chain", "test_faults")


def stem_of(name: str) -> str:
    """The file of a test's name, without its folders and its ending."""
    return Path(name.partition("::")[0]).stem


def group_of(name: str) -> str:
    """Tests of one group run in one worker, one after the other: those of a file, for what its module makes once."""
    stem = stem_of(name)
    return "cluster" if stem in CLUSTER else name if stem in APART else stem


def place(name: str) -> int:
    """Where a test stands in the queue of the workers. The cluster is first: its jobs run while others wait."""
    stem = stem_of(name)
    return CLUSTER.index(stem) - len(CLUSTER) if stem in CLUSTER else LONG.index(stem) if stem in LONG else len(LONG)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """The queue of `pytest -n N`, by the groups above."""
    from xdist.scheduler import LoadScopeScheduling

    class Groups(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return group_of(nodeid)

    config.option.loadscopereorder = False
    return Groups(config, log)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: place(item.nodeid))


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
