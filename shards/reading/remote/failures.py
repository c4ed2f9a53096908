"""What went wrong with a server, whatever library says it: may it pass, how to say it, what to do about it."""

import re
import socket
import ssl
from collections.abc import Iterator
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

from shards.errors import DataError
from shards.text import printable

MAX_REASON = 200  # characters

_PASSING_STATUS = (408, 425, 429)
_LASTING = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError, ImportError)
_MISTAKES = (ValueError, TypeError, AttributeError, NotImplementedError, AssertionError, LookupError)
# By name, because the packages may be absent.
_NO_CREDENTIALS = {
    "NoCredentialsError",
    "PartialCredentialsError",
    "ProfileNotFound",
    "DefaultCredentialsError",
    "RefreshError",
}
_BAD_SETTINGS = {"ParamValidationError", "NoRegionError", "InvalidRegionError", "InvalidConfigError"}

_DROPPED = {"ProtocolError", "IncompleteRead", "IncompleteReadError", "ClientPayloadError", "ConnectionClosedError"}

_S3 = "Set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; FSSPEC_S3_ANON=true for a public bucket"
_GS = "Run: gcloud auth application-default login; or set FSSPEC_GS_TOKEN=anon for a public bucket"
_HTTP = "Check the user name and password in the URL, or ask for a new signed URL: they expire"
_CREDENTIALS = {"s3": _S3, "s3a": _S3, "gs": _GS, "gcs": _GS.replace("_GS_", "_GCS_"), "http": _HTTP, "https": _HTTP}


WEB_PAGE = (
    "the server answered with a web page (HTML or XML), such as a page to log in, instead of this file. Open the URL "
    "in a browser. Data behind a login need a signed URL, or a user name and password in the URL"
)


class TransientError(Exception):
    """A failure that is worth a retry, in words for people."""


class PermanentError(Exception):
    """A failure that no retry mends, in words for people."""


class MissingError(DataError):
    """A file is not there."""


class StatusError(Exception):
    """An HTTP status that is no success."""

    def __init__(self, status: int, retry_after_s: float = 0):
        super().__init__("")
        self.status, self.retry_after_s = status, retry_after_s


class Place:
    """A URL and what may be shown of it: not the user, the password and the query, which hold secrets.

    Raises DataError when it is no URL.
    """

    def __init__(self, url: str):
        try:
            parts = urlsplit(url)
        except ValueError as error:
            raise DataError(f"{cleaned(url)} is no URL ({error}): correct it") from None
        user = parts.netloc.rpartition("@")[0]
        secrets = [user, *user.split(":"), parts.query, parts.fragment]
        self.url, self.protocol = url, parts.scheme
        self.shown = cleaned(url)
        self._secrets = sorted((secret for secret in secrets if len(secret) > 3), key=len, reverse=True)

    def cleaned(self, text: str) -> str:
        """The text on one line, without what this URL hides."""
        for secret in self._secrets:
            text = text.replace(secret, "...")
        return cleaned(text)


def cleaned(text: str) -> str:
    """The text on one printable line, without the users, passwords and queries of URLs in it."""
    text = re.sub(r"//[^/\s'\"]*@", "//", text)
    text = re.sub(r"[?#][^\s'\"<>)]*", "", text)
    return printable(" ".join(text.split()))[:MAX_REASON]


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """An error and those it came from, each once."""
    seen: set[int] = set()
    todo: list[Any] = [error]
    while todo:
        error = todo.pop(0)
        if isinstance(error, BaseException) and id(error) not in seen:
            seen.add(id(error))
            yield error
            hidden = None if error.__suppress_context__ else error.__context__
            todo += [getattr(error, "reason", None), error.__cause__, hidden, *error.args]


def status_of(error: BaseException) -> int | None:
    """The HTTP status behind an error, or None."""
    if any(type(cause).__module__ == "aiohttp.http_exceptions" for cause in causes(error)):
        return None  # a garbled or unfinished answer, to which aiohttp gives a made-up status
    for cause in causes(error):
        if isinstance(cause, OSError) and str(cause).startswith("Forbidden: "):  # gcsfs says it in words only
            return 403
        response = getattr(cause, "response", None)
        if isinstance(response, dict):  # botocore
            found = [response.get("ResponseMetadata", {}).get("HTTPStatusCode")]
        else:
            found = [getattr(cause, name, None) for name in ("status", "status_code", "code")]
            found.append(getattr(response, "status_code", None))
        for status in found:
            if isinstance(status, int) and 300 <= status < 600:
                return status
    return None


def is_transient(error: BaseException) -> bool:
    """Whether the same request may succeed a little later. What is unknown may."""
    if not isinstance(error, Exception) or isinstance(error, DataError | PermanentError):
        return False
    if isinstance(error, TransientError):
        return True
    status = status_of(error)
    if status is not None:
        return status in _PASSING_STATUS or (status >= 500 and status != 501)
    if _without_credentials(error) or _of_a(error, ssl.SSLCertVerificationError):
        return False
    if any(type(cause).__name__ in _BAD_SETTINGS for cause in causes(error)):
        return False
    return not isinstance(error, _LASTING + _MISTAKES)


def is_missing(error: BaseException) -> bool:
    """Whether the server says that there is no such file."""
    return status_of(error) in (404, 410) or isinstance(error, FileNotFoundError)


def in_words(error: BaseException, answer_s: float) -> str:
    """What went wrong, for people; it may still hold secrets. ``answer_s`` is how long an answer was waited for."""
    status = status_of(error)
    if isinstance(error, TransientError | PermanentError):
        return str(error)
    reason = getattr(error, "reason", None)
    if isinstance(reason, Exception):  # urllib3's MaxRetryError
        error = reason
    text = getattr(error, "strerror", None) or str(error)
    phrase = HTTPStatus(status).phrase if status in set(HTTPStatus) else ""
    said = f" ({text})" if text and text != phrase else ""
    if status is not None:
        return f"HTTP {status} {phrase}".rstrip() + said
    if _without_credentials(error):
        return f"there are no valid credentials{said}"
    untrusted = [cause for cause in causes(error) if isinstance(cause, ssl.SSLCertVerificationError)]
    if untrusted:
        return f"its certificate is not trusted ({untrusted[0].verify_message or untrusted[0]})"
    if any(isinstance(cause, TimeoutError) or "Timeout" in type(cause).__name__ for cause in causes(error)):
        return f"no answer within {answer_s:g} s, or one too slow"
    names = {type(cause).__name__ for cause in causes(error)}
    if _of_a(error, socket.gaierror) or "NameResolutionError" in names:
        return "the name of its host is not known here"
    if _of_a(error, ConnectionRefusedError):
        return "the connection was refused"
    if _of_a(error, ConnectionError) or names & _DROPPED:
        return "the connection was dropped"
    if isinstance(error, FileNotFoundError):
        return f"there is no such file, folder or bucket{said}"
    if isinstance(error, PermissionError):
        return f"access is denied{said}"
    return f"{type(error).__name__}{said}"


def remedy(error: BaseException, protocol: str) -> str:
    """What a person can do about it; empty where the failure says so itself."""
    status = status_of(error)
    if isinstance(error, PermanentError):
        return ""
    if is_transient(error):
        return "Is the server reachable from this node? Start the run again to resume from its last checkpoint"
    if status in (401, 403) or _without_credentials(error) or _of_a(error, PermissionError):
        return credentials(protocol)
    if _of_a(error, ssl.SSLCertVerificationError):
        return "Set SSL_CERT_FILE to the certificates of its authority"
    if is_missing(error):
        return "Check the URL, or copy the data folder there again"
    return "Check the URL and the settings of its server"


def credentials(protocol: str) -> str:
    """Where the credentials for a protocol come from."""
    return _CREDENTIALS.get(protocol, "Check the credentials, and that they allow reading this folder")


def _without_credentials(error: BaseException) -> bool:
    return any(type(cause).__name__ in _NO_CREDENTIALS for cause in causes(error))


def _of_a(error: BaseException, kind: type[BaseException]) -> bool:
    return any(isinstance(cause, kind) for cause in causes(error))
