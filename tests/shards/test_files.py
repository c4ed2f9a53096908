"""Files are written whole or not at all, and never through a link."""

import errno
import json
import os
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shards.files import (
    UnsafePathError,
    append_line,
    create_file,
    lines,
    make_folder,
    open_regular,
    parse_lines,
    paths,
    read_file,
    read_lines,
    remove_file,
    remove_leftovers,
    write_atomically,
    write_folder,
    write_into_folder,
    writing,
)

ROOT = Path(__file__).parents[2]
CALLS = 60  # more than any function here makes
CHANGING = {"open", "write", "fsync", "close", "replace", "rename", "unlink", "mkdir", "stat", "fstat", "pread"}
CHANGING |= {"listdir", "fchmod"}


class Failing:
    """Stands for the module `os`: one call of those that work on files fails, and writes may be short."""

    def __init__(self, number: int, code: int, short: bool) -> None:
        self._left, self._code, self._short = number, code, short

    def __getattr__(self, name: str):
        real = getattr(os, name)
        return self._failing(name, real) if name in CHANGING else real

    def _failing(self, name: str, real: Callable) -> Callable:
        def call(*words, **flags):
            self._left -= 1
            if self._left == 0:
                if name == "close":
                    real(*words)
                if name == "write" and self._short:
                    real(words[0], words[1][:1])
                raise OSError(self._code, os.strerror(self._code))
            if name == "write" and self._short and len(words[1]) > 1:
                return real(words[0], words[1][: len(words[1]) // 2])
            return real(*words, **flags)

        return call

    @property
    def happened(self) -> bool:
        return self._left <= 0


@contextmanager
def failing(number: int, code: int, short: bool):
    replaced = Failing(number, code, short)
    modules = (lines, paths, writing)
    for module in modules:
        module.os = replaced
    try:
        yield replaced
    finally:
        for module in modules:
            module.os = os


def everything(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def at_every_call(begin: Callable[[Path], object], write: Callable[[Path], object], code: int, short: bool):
    """What is in a folder before, and after each way in which the write can fail once; at last when it does not."""
    for number in range(1, CALLS):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            begin(folder)
            before = everything(folder)
            raised = None
            with failing(number, code, short) as attempt:
                try:
                    write(folder)
                except OSError as error:
                    raised = error
            assert not [path for path in folder.rglob("*") if path.name.endswith(".tmp")], number
            yield before, everything(folder), raised
            if not attempt.happened:
                assert raised is None
                return
    raise AssertionError("never done")


FAILURES = {"code": st.sampled_from([errno.ENOSPC, errno.EIO, errno.EDQUOT]), "short": st.booleans()}


@given(old=st.none() | st.binary(), new=st.binary(max_size=64), **FAILURES)
@settings(max_examples=25, deadline=None)
def test_a_file_is_the_old_or_the_new_at_every_failing_call(old, new, code, short):
    def begin(folder):
        if old is not None:
            (folder / "file").write_bytes(old)

    for before, after, raised in at_every_call(begin, lambda f: write_atomically(f / "file", new), code, short):
        assert after in ({"file": new}, before)
        if raised is None:
            assert after == {"file": new}
        else:
            assert raised.filename.endswith("/file")
            assert raised.errno == code


@given(
    old=st.sampled_from(
        [b"", b'{"a": 1}\n', b'{"a": 1}\n{"b'],
    ),
    **FAILURES,
)
@settings(max_examples=12, deadline=None)
def test_a_line_is_there_or_not_at_every_failing_call(old, code, short):
    new = old + (b"\n" if old and not old.endswith(b"\n") else b"") + b'{"step": 3}\n'

    def begin(folder):
        (folder / "file").write_bytes(old)

    def write(folder):
        append_line(folder / "file", {"step": 3})

    for _, after, raised in at_every_call(begin, write, code, short):
        assert after["file"] == (new if raised is None else old), "a line that is tried again would be there twice"


def two_files(folder: Path) -> None:
    (folder / "a").write_bytes(b"new a")
    (folder / "b").write_bytes(b"new b")


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
@pytest.mark.parametrize("there", [True, False])
def test_a_folder_is_the_old_or_the_new_at_every_failing_call(there, code):
    def begin(folder):
        if there:
            (folder / "it").mkdir()
            (folder / "it" / "a").write_bytes(b"old a")

    new = {"it/a": b"new a", "it/b": b"new b"}
    for before, after, raised in at_every_call(begin, lambda f: write_folder(f / "it", two_files), code, False):
        assert after in (before, new)
        assert raised or after == new


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
def test_files_of_a_folder_are_no_mixture_at_any_failing_call(code):
    def begin(folder):
        for name in ("a", "b", "own", "stale"):
            (folder / name).write_bytes(f"old {name}".encode())

    def write(folder):
        write_into_folder(folder, two_files, last="b", stale=["stale"])

    new = {"a": b"new a", "b": b"new b", "own": b"old own"}
    for before, after, raised in at_every_call(begin, write, code, False):
        assert after in (before, new) or "b" not in after, "without the last file the others count for nothing"
        assert after["own"] == b"old own"
        assert raised or after == new


def test_a_folder_that_was_missing_goes_again(tmp_path):
    def full(folder):
        two_files(folder)
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        write_into_folder(tmp_path / "deep" / "folder", full, last="b")
    assert not list(tmp_path.iterdir())


@pytest.fixture
def victim(tmp_path):
    """A folder elsewhere, with a file that nobody may touch; checked after the test."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    (folder / "file").write_bytes(b"precious\n")
    (folder / "best-9.wav").write_bytes(b"sound")
    before = everything(folder), {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    yield folder
    assert (everything(folder), {path: path.stat().st_mtime_ns for path in folder.iterdir()}) == before


TRAPS = {
    "a symbolic link": lambda place, victim: place.symlink_to(victim / "file"),
    "a symbolic link, dangling": lambda place, victim: place.symlink_to(victim / "nothing"),
    "a symbolic link, to a folder": lambda place, victim: place.symlink_to(victim),
    "a named pipe": lambda place, _: os.mkfifo(place),
    "a folder": lambda place, _: place.mkdir(),
    "a device": lambda place, _: os.mknod(place, stat.S_IFCHR | 0o666, os.makedev(1, 7)),
}
WRITES = {
    "whole": lambda place: write_atomically(place, b"x"),
    "line": lambda place: append_line(place, {"x": 1}),
    "create": lambda place: create_file(place),
    "lock": lambda place: open_regular(place, os.O_WRONLY | os.O_CREAT),
    "together": lambda place: write_into_folder(place.parent, two_files_named(place.name), last="b"),
    "read": read_file,
    "lines": read_lines,
}


def two_files_named(name: str) -> Callable[[Path], None]:
    def fill(folder: Path) -> None:
        (folder / name).write_bytes(b"new")
        (folder / "b").write_bytes(b"new")

    return fill


@pytest.mark.parametrize("trap", TRAPS)
@pytest.mark.parametrize("write", WRITES)
def test_what_is_no_file_is_refused_and_never_waited_for(write, trap, tmp_path, victim):
    run = tmp_path / "run"
    run.mkdir()
    try:
        TRAPS[trap](run / "place", victim)
    except PermissionError:
        pytest.skip("only root makes devices")
    with pytest.raises(UnsafePathError) as caught:
        WRITES[write](run / "place")
    assert str(caught.value) == f"{run}/place: it is {trap.split(',')[0]}, not a regular file; remove it"
    assert [path.name for path in run.iterdir()] == ["place"]


BELOW = {
    "whole": lambda folder, root: write_atomically(folder / "x", b"x", inside=root),
    "line": lambda folder, root: append_line(folder / "x", {}, inside=root),
    "folder": lambda folder, root: write_folder(folder / "x", two_files, inside=root),
    "make": lambda folder, root: make_folder(folder, inside=root),
    "remove": lambda folder, root: remove_file(folder / "best-9.wav", inside=root),
}


@pytest.mark.parametrize("write", BELOW)
@pytest.mark.parametrize("depth", [0, 1])
def test_a_linked_folder_on_the_way_is_refused(write, depth, tmp_path, victim):
    run = tmp_path / "run"
    names = ["report", "audio"]
    run.joinpath(*names[:depth]).mkdir(parents=True)
    link = run.joinpath(*names[: depth + 1])
    link.symlink_to(victim)
    (tmp_path / "reached-by-a-link").symlink_to(run)
    for root in (run, tmp_path / "reached-by-a-link"):
        with pytest.raises(UnsafePathError, match="a symbolic link, not a real folder; remove it") as caught:
            BELOW[write](root / "report" / "audio", root)
        assert caught.value.filename == str(root / link.relative_to(run))


def test_the_outermost_folder_may_be_reached_by_a_link(tmp_path):
    (tmp_path / "run").mkdir()
    root = tmp_path / "link"
    root.symlink_to(tmp_path / "run")
    make_folder(root / "report" / "audio", inside=root)
    write_atomically(root / "report" / "audio" / "x", "text", inside=root)
    append_line(root / "lines", {"a": 1})
    write_folder(root / "model", two_files)
    write_into_folder(root, two_files, last="b")
    assert set(everything(tmp_path / "run")) == {"report/audio/x", "lines", "model/a", "model/b", "a", "b"}


def test_a_file_with_a_second_name_does_not_grow(tmp_path, victim):
    os.link(victim / "file", tmp_path / "lines")
    with pytest.raises(UnsafePathError, match="it is a hard link; put a copy in its place"):
        append_line(tmp_path / "lines", {"a": 1})
    os.link(victim / "file", tmp_path / "whole")
    os.link(victim / "file", tmp_path / "created")
    write_atomically(tmp_path / "whole", b"x")
    with open(create_file(tmp_path / "created"), "w") as file:
        file.write("x")


def test_links_of_a_guessed_temporary_name_do_no_harm(tmp_path, victim):
    for name in ("file.tmp", ".file.tmp", f".file.{os.getpid()}.tmp", f".{os.getpid()}.tmp", "it.tmp"):
        (tmp_path / name).symlink_to(victim / "file")
    write_atomically(tmp_path / "file", b"x")
    write_folder(tmp_path / "it", two_files)
    write_into_folder(tmp_path, two_files, last="b")


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o027, 0o640), (0o077, 0o600)])
def test_colleagues_may_read_what_the_mask_allows(mask, mode, tmp_path):
    before = os.umask(mask)
    try:
        write_atomically(tmp_path / "whole", b"x")
        append_line(tmp_path / "lines", {})
        os.close(create_file(tmp_path / "created"))
        write_folder(tmp_path / "it", two_files)
    finally:
        os.umask(before)
    assert {path.stat().st_mode & 0o777 for path in tmp_path.rglob("*") if path.is_file()} == {mode}


def test_lines_are_one_write_each(tmp_path, monkeypatch):
    sizes, real = [], os.write
    monkeypatch.setattr(os, "write", lambda handle, content: sizes.append(len(content)) or real(handle, content))
    (tmp_path / "lines").write_bytes(b'{"cut": ')
    append_line(tmp_path / "lines", {"a": 1})
    append_line(tmp_path / "lines", {"a": 2})
    assert sizes == [10, 9]
    assert read_lines(tmp_path / "lines") == [{"a": 1}, {"a": 2}]


WHOLE = st.integers(-(2**64) + 1, 2**64 - 1)


@given(st.lists(st.binary() | st.dictionaries(st.text(), WHOLE).map(lambda row: json.dumps(row).encode())))
@settings(max_examples=40, deadline=None)
def test_lines_of_any_bytes_are_read(lines):
    rows = parse_lines(b"\n".join(lines))
    assert all(isinstance(row, dict) for row in rows)
    whole = []
    for line in b"\n".join(lines).split(b"\n"):
        with suppress(ValueError):
            whole.append(json.loads(line))
    assert rows == [row for row in whole if isinstance(row, dict)]


def test_long_lines_and_huge_numbers_are_passed_over(tmp_path):
    long = b'{"a": "' + b"x" * (1 << 21) + b'"}'
    (tmp_path / "lines").write_bytes(b"\n".join([b'{"a": 1}', long, b'{"a": 18446744073709551616}', b'{"a": 2}']))
    assert read_lines(tmp_path / "lines") == [{"a": 1}, {"a": 2}]
    os.truncate(tmp_path / "lines", 1 << 40)
    with pytest.raises(OSError, match="it has more than 1,073,741,824 bytes"):
        read_lines(tmp_path / "lines")


def test_deep_lines_and_missing_files_are_none(tmp_path):
    (tmp_path / "deep").write_bytes(b"[" * 100_000 + b'\n{"a": 1}\n')
    assert read_lines(tmp_path / "deep") == [{"a": 1}]
    assert read_lines(tmp_path / "nothing") == read_lines(tmp_path / "deep" / "x") == []


def test_what_killed_writers_left_is_removed(tmp_path):
    for name in (".0123456789abcdef.tmp", ".mine.tmp", "x.tmp", "it.0123456789abcdef.tmp"):
        (tmp_path / name).write_bytes(b"")
    remove_leftovers(tmp_path)
    remove_leftovers(tmp_path / "nothing")
    assert {path.name for path in tmp_path.iterdir()} == {".mine.tmp", "x.tmp", "it.0123456789abcdef.tmp"}
    (tmp_path / "it.0123456789abcdef.tmp").unlink()
    (tmp_path / "it.0123456789abcdef.tmp").mkdir()
    write_folder(tmp_path / "it", two_files)
    assert {path.name for path in tmp_path.iterdir()} == {".mine.tmp", "x.tmp", "it"}


def test_the_standard_library_is_enough():
    """For the decision to requeue, in the last seconds of a job: without site-packages."""
    program = "import sys, train.runs.requeue; print(*{name.split('.')[0] for name in sys.modules})"
    command = [sys.executable, "-S", "-c", program]
    environment = {"PYTHONPATH": str(ROOT), "PATH": os.environ["PATH"]}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=1000, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert set(done.stdout.split()) - sys.stdlib_module_names == {"__main__", "shards", "train"}
