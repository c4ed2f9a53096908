"""Run folders that this process cannot use: another user's, or one in which another process trains."""

import fcntl
import os
import shutil
import tempfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from train.__main__ import is_user_error
from train.config import DataConfig, VAERun
from train.errors import TrainError, TransientError
from train.runs.run_folder import RunDir


@pytest.fixture
def stranger():
    """A folder of a run; the tests may run as root, who may do all, so they become nobody."""
    folder = Path(tempfile.mkdtemp())  # pytest's own folders cannot be entered by others
    (folder / "run" / "checkpoints").mkdir(parents=True)
    folder.chmod(0o755)
    me = os.geteuid()
    if me == 0:
        os.seteuid(65534)
    yield folder / "run"
    if me == 0:
        os.seteuid(0)
    (folder / "run").chmod(0o755)
    shutil.rmtree(folder)


def as_owner(run, mode: int) -> None:
    me = os.geteuid()
    if me == 65534:
        os.seteuid(0)
    run.chmod(mode)
    if me == 65534:
        os.seteuid(me)


@pytest.mark.parametrize(("mode", "what"), [(0o000, "read"), (0o700, "read"), (0o555, "written")])
def test_another_users_folder_is_one_line(mode, what, stranger):
    if mode == 0o700 and os.geteuid() != 65534:
        pytest.skip("needs root")
    as_owner(stranger, mode)
    (config, said) = VAERun(DataConfig("d"), stranger), "choose another --run-dir"
    with pytest.raises(TrainError, match=rf"run: cannot be {what} \(Permission denied\); {said}") as caught:
        RunDir.create_or_resume(config, "vae", "f")
    assert not isinstance(caught.value, TransientError)
    assert is_user_error(caught.value, SimpleNamespace(run_dir=stranger))
    with pytest.raises(TrainError, match=r"cannot be read|cannot read"):
        RunDir.open(stranger)


def test_a_folder_in_which_another_process_trains(tmp_path):
    config = VAERun(DataConfig("d"), tmp_path / "run")
    config.run_dir.mkdir()
    with open(config.run_dir / "lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(TransientError, match="touch"):
            RunDir.create_or_resume(config, "vae", "f")
