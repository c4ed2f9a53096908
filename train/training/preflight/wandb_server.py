"""Whether W&B's server answers; if not, the attempt is offline, as W&B's own attempt to connect takes minutes."""

import os
import socket
from urllib.parse import urlsplit

from shards.reading.remote.failures import cleaned
from train.config import RunConfig
from train.tracking.wandb_settings import server_url, wandb_mode

TIMEOUT_S = 5


def reachable_mode(config: RunConfig) -> tuple[str, str]:
    """The W&B mode of this attempt: as set, but offline if the server does not answer; and a line to print, or ""."""
    mode = wandb_mode(config.tracking.wandb)
    if mode != "online":
        return mode, ""
    server = server_url()
    proxy = os.environ.get("HTTPS_PROXY") or os.environ.get("https_proxy")
    if answers(proxy or server):
        return mode, f"W&B at {cleaned(server)} answers"
    sync = f"python -m train sync {config.run_dir}"
    return "offline", f"W&B at {cleaned(server)} does not answer: offline; to upload later, where it does: {sync}"


def answers(url: str) -> bool:
    """Whether a TCP connection to the host and port of a URL can be opened within TIMEOUT_S."""
    try:
        parts = urlsplit(url if "//" in url else f"//{url}")
        port = parts.port or (80 if parts.scheme == "http" else 443)
        socket.create_connection((parts.hostname, port), timeout=TIMEOUT_S).close()
    except (OSError, ValueError):
        return False
    return True
