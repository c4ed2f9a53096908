import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import music

import shards

ROOT = Path(shards.__file__).parent.parent


def command(*words):
    return [sys.executable, "-m", "shards", *map(str, words)]


def run(*words):
    return subprocess.run(command(*words), cwd=ROOT, capture_output=True, text=True, timeout=120)


def test_from_recordings_to_shards(audio_dir, tmp_path):
    built = run("build", audio_dir, tmp_path / "set", "--samples", 2205, "--hop=1000", "--chunks-per-shard", 100)
    assert built.returncode == 0, built.stderr
    assert "kept 8 recordings" in built.stdout
    assert built.stderr == ""
    assert run("verify", tmp_path / "set").returncode == 0
    shown = run("inspect", tmp_path / "set", "--json")
    assert json.loads(shown.stdout)["splits"]["train"]["chunks"] > 100


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["build", "/nonexistent", "/tmp/never"], "/nonexistent is not a folder"),
        (["inspect", "/nonexistent"], "has no dataset.json"),
        (["verify", "/nonexistent"], "has no dataset.json"),
        (["practice", "/proc/never"], "/proc/never"),
    ],
)
def test_errors_are_one_line(words, message):
    result = run(*words)
    assert result.returncode == 1
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    assert message in result.stderr


def test_unknown_flags_and_commands_are_refused():
    for words in (["build", "a", "b", "--hopp", "3"], ["bild"], []):
        result = run(*words)
        assert result.returncode == 2
        assert "error: " in result.stderr
        assert "Traceback" not in result.stderr


def workers_of(folder):
    """Processes whose command line or parent is the build of this folder."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and str(folder) in (entry / "environ").read_text(errors="replace"):
                found.append(int(entry.name))
        except OSError:
            continue
    return found


@pytest.mark.parametrize(("how", "code"), [(signal.SIGINT, 130), (signal.SIGKILL, -9)])
def test_a_stopped_build_leaves_no_process_and_continues(tmp_path, how, code):
    import soundfile

    audio, out = tmp_path / "audio", tmp_path / "set"
    audio.mkdir()
    for seed in range(2):
        soundfile.write(audio / f"{seed}.wav", music(400, 44100, 1, seed), 44100)
    words = command("build", audio, out, "--samples", 512, "--hop", 128, "--workers", 2)
    marked = os.environ | {"BUILD_MARK": str(tmp_path)}
    process = subprocess.Popen(words, cwd=ROOT, stderr=subprocess.PIPE, text=True, env=marked)
    limit = time.monotonic() + 60
    while not list(out.glob(".build/part-*/*.rows")):
        assert time.monotonic() < limit
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(how)
    _, told = process.communicate(timeout=20)
    assert process.returncode == code
    if how == signal.SIGINT:
        assert told == "error: interrupted; run the same command again to continue\n"
    while workers_of(tmp_path):
        assert time.monotonic() < limit
        time.sleep(0.05)
    assert not (out / "dataset.json").exists()
    again = run(*words[3:])
    assert again.returncode == 0, again.stderr
    assert run("verify", out).returncode == 0


def test_workers_do_not_import_torch():
    code = "import sys, shards.building.build, shards.building.part; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
