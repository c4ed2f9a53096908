"""W&B's settings come from the user's home and environment, never from the current folder."""

import os
import subprocess
import sys

import pytest
from wandb.sdk.lib.wbauth.wbnetrc import write_netrc_auth
from wandb_reader import SECRET, assert_nowhere
from wandb_server import WandbServer

from tests.train.conftest import environment, flags, train
from train.tracking.wandb_settings import server_url, wandb_mode

LOADED = "from train.tracking.wandb_settings import load_wandb; print(load_wandb().setup().settings.base_url)"


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A user's home without any key."""
    folder = tmp_path / "home"
    folder.mkdir()
    for name in [name for name in os.environ if name.startswith("WANDB") or name == "NETRC"]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(folder))
    return folder


@pytest.mark.parametrize("place", ["wandb", pytest.param(".wandb", marks=pytest.mark.slow(area="wandb"))])
def test_a_settings_file_in_the_current_folder_names_no_server(home, tmp_path, place):
    received = tmp_path / "received"
    (received / place).mkdir(parents=True)
    (received / place / "settings").write_text("[default]\nbase_url = http://elsewhere.example\n")
    done = subprocess.run(
        [sys.executable, "-c", LOADED], cwd=received, env=environment(), capture_output=True, text=True, timeout=1000
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
    assert "elsewhere" not in done.stdout
    (home / ".config" / "wandb").mkdir(parents=True)
    (home / ".config" / "wandb" / "settings").write_text("[default]\nbase_url = http://own.example\n")
    done = subprocess.run(
        [sys.executable, "-c", LOADED], cwd=received, env=environment(), capture_output=True, text=True, timeout=1000
    )
    assert done.stdout.strip() == "http://own.example"


@pytest.mark.slow(area="wandb")
def test_syncing_in_a_received_folder_sends_nothing_to_its_server(home, straight_with_wandb, tmp_path):
    """The user's key goes only to the user's server."""
    run = straight_with_wandb(tmp_path / "received")
    with WandbServer() as own, WandbServer() as stranger:
        (home / ".config" / "wandb").mkdir(parents=True)
        (home / ".config" / "wandb" / "settings").write_text(f"[default]\nbase_url = {own.url}\n")
        (run / "wandb" / "settings").write_text(f"[default]\nbase_url = {stranger.url}\n")
        done = subprocess.run(
            [sys.executable, "-m", "train", "sync", "."],
            cwd=run,
            env=environment(WANDB_API_KEY=SECRET, WANDB_INIT_TIMEOUT="30"),
            capture_output=True,
            text=True,
            timeout=1000,
        )
        assert done.returncode == 0, done.stderr
        assert own.history
        assert not stranger.authorizations
        assert not stranger.history
    assert_nowhere(run, SECRET)


@pytest.mark.parametrize(
    ("netrc", "settings", "mode"),
    [
        ("", "", "offline"),
        ("machine api.wandb.ai login user password key", "", "online"),
        ("machine api.forge.coreweave.com login user password key", "", "online"),
        ("machine other.example login user password key", "", "offline"),
        ("machine own.example:8080 login user password key", "base_url = http://own.example:8080", "online"),
        ("machine api.wandb.ai login user password key", "base_url = http://own.example:8080", "offline"),
        ("", "api_key = key", "online"),
        ("not a netrc file", "[[[", "offline"),
    ],
)
def test_auto_is_online_with_a_key_for_the_user_s_own_server(home, netrc, settings, mode):
    (home / ".netrc").write_text(netrc + "\n")
    (home / ".netrc").chmod(0o600)
    (home / ".config" / "wandb").mkdir(parents=True)
    (home / ".config" / "wandb" / "settings").write_text(f"[default]\n{settings}\n")
    assert wandb_mode("auto") == mode
    assert wandb_mode("disabled") == "disabled"


def test_a_key_that_wandb_login_wrote_for_a_self_hosted_server_is_found(home, monkeypatch):
    """W&B's own function writes ~/.netrc; the server comes from the environment."""
    url = "http://own.example:8080"
    write_netrc_auth(host=url, api_key=SECRET)
    assert "own.example:8080" in (home / ".netrc").read_text()
    assert wandb_mode("auto") == "offline"
    monkeypatch.setenv("WANDB_BASE_URL", url)
    assert wandb_mode("auto") == "online"
    monkeypatch.setenv("WANDB_BASE_URL", url + "/")
    assert wandb_mode("auto") == "online"


def test_the_server_is_that_of_the_environment_then_of_the_settings_file(home, monkeypatch):
    """The preflight check asks this server whether it answers."""
    assert server_url() == "https://api.wandb.ai"
    (home / ".config" / "wandb").mkdir(parents=True)
    (home / ".config" / "wandb" / "settings").write_text("[default]\nbase_url = http://own.example:8080\n")
    assert server_url() == "http://own.example:8080"
    monkeypatch.setenv("WANDB_BASE_URL", "http://other.example")
    assert server_url() == "http://other.example"


def test_wandb_mode_in_the_environment_decides(home, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_API_KEY", "key")
    assert wandb_mode("auto") == "offline"


@pytest.fixture
def straight_with_wandb(data_dir):
    """A function make(folder) that returns the folder of a tiny run with one offline part."""

    def make(folder):
        train([*flags("vae", data_dir, folder), "--tracking.wandb", "offline"])
        return folder

    return make
