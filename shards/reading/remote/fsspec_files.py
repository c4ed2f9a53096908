"""Parts of files behind every URL that fsspec opens: s3://, gs://, abfs://, memory://, file://."""

import asyncio
import contextlib
import logging
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar
from urllib.parse import urlsplit

import fsspec
from fsspec.config import conf

from shards.errors import DataError
from shards.reading.remote.failures import PermanentError, TransientError, credentials
from shards.reading.remote.limits import too_long, within

T = TypeVar("T")

CLOSING_S = 5.0
PACKAGES = {"s3": "s3fs", "s3a": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "abfs": "adlfs", "az": "adlfs"}
# fsspec knows it, but its client follows redirects to any host, and retries by itself.
REFUSED = {
    "hf": "Run: hf download OWNER/NAME --repo-type dataset --local-dir DIR; or give the URL of its files, "
    "https://huggingface.co/datasets/OWNER/NAME/resolve/main"
}


class FsspecFiles:
    """Files of a folder behind a URL. Any number of threads may use it.

    fsspec's own settings hold, from its files and from the environment, such as FSSPEC_S3_ANON=true. Requests
    raise failures of all kinds, none of which is meant for people; the constructor raises DataError.
    """

    def __init__(self, url: str, shown: str, answer_s: float, connections: int):
        protocol = url.split("://")[0]
        if "::" in url:
            raise DataError(
                f"{shown}: chained URLs are not read. Give the last URL alone, and --data.scratch for a cache"
            )
        if protocol in REFUSED:
            raise DataError(f"{shown}: {protocol}:// is not read. {REFUSED[protocol]}")
        if protocol in PACKAGES and "@" in urlsplit(url).netloc:
            raise DataError(f"{shown}: no user and password in a URL of this kind. {credentials(protocol)}")
        try:
            kind = fsspec.get_filesystem_class(protocol)
        except ImportError as error:
            reason, package = error.__cause__ or error, PACKAGES.get(protocol)
            remedy = f". Run: python -m pip install {package}" if package else f". {error}"
            raise DataError(f"{shown}: reading {protocol}:// needs another package ({reason}){remedy}") from None
        except ValueError:
            known = "https, s3, gs, file and all that fsspec knows"
            raise DataError(f"{shown}: there is no protocol {protocol}://, only {known}. Check the URL") from None
        logging.getLogger("gcsfs").setLevel(logging.CRITICAL)  # it logs a traceback for what is said in one line here
        self._loop = _Loop() if kind.async_impl else None
        options = {**_limits(protocol, answer_s, connections), "skip_instance_cache": True}
        if self._loop:
            options |= {"asynchronous": True, "loop": self._loop.loop}
        try:
            self._files, folder = fsspec.url_to_fs(url, **options)
        except BaseException:
            self.close()
            raise
        self._folder = folder.rstrip("/")
        # What has no event loop is not known to be safe for threads, but for these two.
        self._one: Any = contextlib.nullcontext() if protocol in ("file", "local", "memory") else threading.Lock()

    def listing(self, limit_s: float) -> dict[str, int | None] | None:
        """Names and sizes of all files of the folder, None where listing is not allowed."""
        try:
            rows = self._call("ls", limit_s, self._folder, detail=True)
        except PermissionError as error:
            answer = getattr(error.__cause__, "response", None) or {}
            if answer.get("Error", {}).get("Code", "AccessDenied") != "AccessDenied":
                raise  # such as S3's InvalidAccessKeyId: nothing else will be allowed either
            return None
        return {row["name"].rpartition("/")[2]: row.get("size") for row in rows if row.get("type") == "file"}

    def size(self, name: str, limit_s: float) -> int | None:
        """Size of a file, None when the server does not say."""
        return self._call("info", limit_s, f"{self._folder}/{name}").get("size")

    def read(self, name: str, offset: int, out: memoryview, limit_s: float) -> None:
        """Fill ``out`` with the bytes of a file from ``offset`` on."""
        content = self._call("cat_file", limit_s, f"{self._folder}/{name}", start=offset, end=offset + len(out))
        if len(content) < len(out):
            raise TransientError(f"only {len(content)} of {len(out)} bytes came")
        if len(content) > len(out):
            raise PermanentError(f"{len(content)} bytes came instead of {len(out)}: its server ignores ranges")
        out[:] = content

    def whole(self, name: str, limit_s: float, most: int) -> bytes:
        """All bytes of a file; PermanentError for more than ``most``, of which no more are asked for."""
        content = self._call("cat_file", limit_s, f"{self._folder}/{name}", start=0, end=most + 1)
        if len(content) > most:
            raise PermanentError(too_long(most))
        return content

    def close(self) -> None:
        """Close the connections and end the thread; reads that are under way fail."""
        if self._loop:
            self._loop.close(self._disconnect())

    def _call(self, method: str, limit_s: float, *args: Any, **kwargs: Any) -> Any:
        if self._loop:
            return self._loop.call(getattr(self._files, f"_{method}")(*args, **kwargs), limit_s)

        def call() -> Any:
            with self._one:
                return getattr(self._files, method)(*args, **kwargs)

        return within(limit_s, call)

    async def _disconnect(self) -> None:
        """Close what the file systems call a session: they do so themselves only when they run a loop of theirs."""
        files = getattr(self, "_files", None)
        for name in ("_s3", "_session"):
            session = getattr(files, name, None)
            if session is not None and hasattr(session, "close"):
                await session.close()


def _limits(protocol: str, answer_s: float, connections: int) -> dict[str, Any]:
    """Time limits in the words of each file system, beside what the user has set for it."""
    given = conf.get(protocol, {})
    if protocol in ("s3", "s3a"):
        ours = {
            "connect_timeout": answer_s,
            "read_timeout": answer_s,
            "retries": {"total_max_attempts": 1},
            "max_pool_connections": connections,
            "signature_version": "s3v4",
        }
        return {"config_kwargs": ours | given.get("config_kwargs", {})}
    if protocol in ("gs", "gcs"):
        import aiohttp  # comes with gcsfs

        timeout = aiohttp.ClientTimeout(total=None, sock_connect=answer_s, sock_read=answer_s)
        return {"session_kwargs": {"timeout": timeout} | given.get("session_kwargs", {})}
    return {}


class _Loop:
    """An event loop in its own thread; fsspec's shared loop never ends."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, name="remote", daemon=True)
        self._thread.start()

    def call(self, work: Coroutine[Any, Any, T], limit_s: float) -> T:
        """What a coroutine returns. Raises TimeoutError when it takes longer."""
        if not self._thread.is_alive():
            work.close()
            raise PermanentError("it is closed")
        future = asyncio.run_coroutine_threadsafe(work, self.loop)
        try:
            return future.result(limit_s)
        except TimeoutError:
            future.cancel()
            raise

    def close(self, last: Coroutine[Any, Any, None]) -> None:
        """Cancel what is under way, run ``last``, and end the thread, all within some seconds."""
        if not self._thread.is_alive():
            last.close()
            return
        ending = asyncio.run_coroutine_threadsafe(self._end(last), self.loop)
        with contextlib.suppress(Exception):
            ending.result(2 * CLOSING_S)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(CLOSING_S)
        if not self._thread.is_alive():
            self.loop.close()

    async def _end(self, last: Coroutine[Any, Any, None]) -> None:
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.wait_for(last, CLOSING_S)
        await self.loop.shutdown_asyncgens()
        await asyncio.wait_for(self.loop.shutdown_default_executor(), CLOSING_S)
