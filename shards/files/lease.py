"""Leases: which process does which work, among nodes that share a file system.

A lease is a file that exists as long as its holder works. Locks of the kernel are not enough: some network file
systems keep them within a node, others keep those of a node that died. So the holder also rewrites the file
every few seconds. Processes under the same kernel ask for the lock and know at once; others watch the file, by
their own clock, and take a lease over that has not changed for a minute.

What it relies on: that creating a file with O_EXCL and renaming one are atomic, and that a file that is opened
anew shows what another node wrote and synced (on NFS: close-to-open consistency). A holder that was only frozen
for a minute loses its lease without knowing: so a lease saves work and gives clear errors, but no data may depend
on it. Builders write under unique names and rename what is whole; all of them would write the same bytes.
"""

import fcntl
import json
import os
import socket
import sys
import threading
import time
from pathlib import Path

from shards.text import printable

HEARTBEAT_S = 5.0
STALE_S = 60.0
_POLL_S = 0.2


class Lease:
    """A lease that is held; see ``take``. A context manager that gives it back."""

    def __init__(self, path: Path, handle: int):
        self._path, self._handle = path, handle
        self._locked = _lock(handle)
        self._beats = 0
        self._over = threading.Event()
        self._write()
        self._thread = threading.Thread(target=self._beat, daemon=True)
        self._thread.start()

    @classmethod
    def take(cls, path: Path) -> "Lease | None":
        """The lease of this name, or None when a living process holds it: within a minute either way.

        Makes the folder. Raises OSError when it cannot be written.
        """
        while True:
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                return cls(path, os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o666))
            except FileExistsError:
                if not _remove_dead(path):
                    return None
            except FileNotFoundError:  # a finished build has just removed the folder
                continue

    def __enter__(self) -> "Lease":
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def release(self) -> None:
        """Give the lease back."""
        self._over.set()
        self._thread.join()
        try:
            if os.stat(self._path).st_ino == os.fstat(self._handle).st_ino:  # no other process took it over
                os.unlink(self._path)
        except OSError:
            pass  # gone with its folder
        os.close(self._handle)

    def _beat(self) -> None:
        while not self._over.wait(HEARTBEAT_S):
            self._write()

    def _write(self) -> None:
        """Write the holder. The length is always the same, so that no reader sees a part."""
        self._beats += 1
        content = {
            "beats": f"{self._beats:012d}",
            "host": socket.gethostname(),
            "process": os.getpid(),
            "job": os.environ.get("SLURM_JOB_ID"),
            "kernel": _kernel() if self._locked else None,
        }
        try:
            os.pwrite(self._handle, json.dumps(content).encode(), 0)
            os.fsync(self._handle)
        except OSError:
            pass  # a full disk: the next beat may come through, and no data depends on it


def holder(path: Path) -> str:
    """The holder of a lease, in words."""
    content = _content(_read(path))
    where = [f"{name} {content[name]}" for name in ("host", "process", "job") if content.get(name)]
    return ", ".join(where) or "an unknown process"


def sweep(folder: Path) -> None:
    """Remove the leases of processes of this machine that are gone; it does not wait for others."""
    for path in folder.glob("*.lease"):
        if _content(_read(path)).get("kernel") == _kernel():
            _remove_dead(path)


def _remove_dead(path: Path) -> bool:
    """Remove the lease unless a living process holds it; whether it did, or found none."""
    try:
        handle = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        return True
    try:
        same_kernel = _content(_read(path)).get("kernel") == _kernel()
        if not _lock(handle) if same_kernel else _has_heartbeat(path):
            return False
        # Another process may have removed it just now and hold a new one.
        if os.stat(path).st_ino == os.fstat(handle).st_ino:
            path.unlink()
    except FileNotFoundError:
        pass
    finally:
        os.close(handle)
    return True


def _has_heartbeat(path: Path) -> bool:
    """Whether the lease is rewritten within a minute."""
    before = _read(path)
    line = f"waiting at most {STALE_S:.0f} s to see whether another build is alive ({holder(path)})"
    print(printable(line), file=sys.stderr, flush=True)
    end = time.monotonic() + STALE_S
    while before is not None and time.monotonic() < end:
        time.sleep(_POLL_S)
        now = _read(path)
        if now is not None and now != before:
            return True
        before = now
    return False


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def _content(text: bytes | None) -> dict:
    try:
        content = json.loads(text or b"{}")
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}


def _lock(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # not on this file system, or somebody looks at it in this very moment
        return False
    return True


def _kernel() -> str:
    """The id of this boot of this machine."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return f"{socket.gethostname()} without an id"
