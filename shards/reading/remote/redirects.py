"""Which redirects of a server are followed.

A server could send a request anywhere, also to what only this machine reaches: another service of the cluster, or the
address where a cloud hands out keys.
"""

import os
from urllib.parse import urljoin, urlsplit

from shards.reading.remote.failures import PermanentError, cleaned

REDIRECTS = 5  # in a row
# Other hosts to which redirects are followed, with commas between; a leading dot stands for all names below it.
ALLOWED = "AUDIO_SHARDS_REDIRECTS"


def redirected(before: str, location: str) -> str:
    """The URL that a redirect leads to, by the URL before and the answer's Location.

    Raises:
        PermanentError: unless it stays at its host, or leads to one that AUDIO_SHARDS_REDIRECTS allows. From http to
            https at the same host is fine; from https to http is not.
    """
    try:
        after = urljoin(before, location)
        one, other = urlsplit(before), urlsplit(after)
        ports = [parts.port or {"http": 80, "https": 443}.get(parts.scheme) for parts in (one, other)]
    except ValueError:
        raise PermanentError("the server redirects to something that is not a URL. Use another server") from None
    if other.scheme not in ("http", "https") or (one.scheme, other.scheme) == ("https", "http"):
        raise PermanentError(f"the server redirects from {one.scheme}:// to {cleaned(after)[:80]}. Use another server")
    upgraded = (one.scheme, other.scheme) == ("http", "https")
    same = one.hostname == other.hostname and (upgraded or ports[0] == ports[1])
    host = other.hostname or ""
    if not same and not is_allowed(host, os.environ.get(ALLOWED, "")):
        host = cleaned(host)
        raise PermanentError(
            f"the server redirects to another host, {host}. If you trust that one: export {ALLOWED}={host}"
        )
    return after


def is_allowed(host: str, allowed: str) -> bool:
    """Whether a host is in a list such as "cdn.example.org,.example.com"."""
    names = [name.strip().lower() for name in allowed.split(",") if name.strip(" .")]
    return any(host == name or (name.startswith(".") and host.endswith(name)) for name in names)
