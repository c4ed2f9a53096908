"""W&B's settings, from the user's home and environment only.

W&B also reads `wandb/settings` or `.wandb/settings` in the current folder. In a run folder from someone
else, that file could name another server, and W&B would send the user's API key there.
"""

import configparser
import netrc
import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any
from unittest.mock import patch
from urllib.parse import urlsplit

from train.tracking.wandb_environment import mode_of_environment

# The public server has two names, and a netrc file may hold either.
PUBLIC_HOSTS = ("api.wandb.ai", "api.forge.coreweave.com")
TIMEOUT_S = 5  # for a connection to the server


def load_wandb() -> Any:
    """Imports W&B, with settings from the environment and the user's settings file only."""
    import wandb  # imported here: it takes a second, and most processes do not need it
    from wandb.sdk.wandb_settings import Settings

    nowhere = property(lambda _: os.path.join(os.devnull, "settings"))
    # W&B has no setting for this. A test with a settings file in the current folder checks it.
    with patch.object(Settings, "settings_workspace", nowhere):
        wandb.setup()
    return wandb


def run_wandb(words: list[str], limit_s: float, **more: Any) -> subprocess.CompletedProcess[str]:
    """Runs the wandb command in an empty folder without settings files; raises subprocess.TimeoutExpired."""
    command = [sys.executable, "-m", "wandb", *words]
    # The files name their run.
    dropped = ("WANDB_MODE", "WANDB_RUN_ID", "WANDB_SWEEP_ID", "WANDB_PROJECT", "WANDB_RESUME", "WANDB_DIR")
    environment = {key: value for key, value in os.environ.items() if key not in dropped}
    with tempfile.TemporaryDirectory() as empty:
        return subprocess.run(
            command, env=environment, cwd=empty, capture_output=True, text=True, timeout=limit_s, check=False, **more
        )


def user_file() -> Path:
    """Path of the user's settings file, to which `wandb login --host` writes the server."""
    folder = os.environ.get("WANDB_CONFIG_DIR") or "~/.config/wandb"
    return Path(folder).expanduser() / "settings"


def user_setting(name: str) -> str:
    """A value of the user's settings file, or an empty string."""
    settings = configparser.ConfigParser(interpolation=None)
    try:
        settings.read(user_file(), encoding="utf-8")
    except (configparser.Error, UnicodeDecodeError):
        return ""
    return settings.get("default", name, fallback="")


def server_url() -> str:
    """The URL of the user's W&B server: from the environment, from the settings file, or the public one."""
    return os.environ.get("WANDB_BASE_URL") or user_setting("base_url") or f"https://{PUBLIC_HOSTS[0]}"


def server_answers() -> bool:
    """Whether the user's W&B server, or the proxy before it, takes a connection; W&B itself tries for minutes."""
    return answers(os.environ.get("HTTPS_PROXY") or os.environ.get("https_proxy") or server_url())


def answers(url: str) -> bool:
    """Whether a TCP connection to the host and port of a URL can be opened within TIMEOUT_S."""
    try:
        parts = urlsplit(url if "//" in url else f"//{url}")
        port = parts.port or (80 if parts.scheme == "http" else 443)
        socket.create_connection((parts.hostname, port), timeout=TIMEOUT_S).close()
    except (OSError, ValueError):
        return False
    return True


def hosts() -> tuple[str, ...]:
    """The names, with ports, under which a netrc file may hold the key of the user's W&B server."""
    host = urlsplit(server_url()).netloc
    return (host,) if host and host not in PUBLIC_HOSTS else PUBLIC_HOSTS


def has_key() -> bool:
    """Whether the environment, a netrc file or the settings file holds an API key for the user's server."""
    if os.environ.get("WANDB_API_KEY") or user_setting("api_key"):
        return True
    try:
        known = netrc.netrc(os.environ.get("NETRC"))
    except (OSError, netrc.NetrcParseError):
        return False
    return any(known.authenticators(host) for host in hosts())


def wandb_mode(wanted: str) -> str:
    """Resolves `auto`: WANDB_MODE if set, else online with an API key for the user's server, else offline."""
    if wanted != "auto":
        return wanted
    return mode_of_environment() or ("online" if has_key() else "offline")
