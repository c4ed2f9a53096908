import functools
import json
import os
import re
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import soundfile
from small_builds import contents

import shards
from shards.__main__ import main
from tests.shards.conftest import music

ROOT = Path(shards.__file__).parent.parent


def command(*words):
    return [sys.executable, "-m", "shards", *map(str, words)]


def run(*words):
    return subprocess.run(command(*words), cwd=ROOT, capture_output=True, text=True, timeout=1000)


def without_progress(stderr: str) -> list[str]:
    """The lines of an error stream without those on progress, which slow machines get."""
    return [line for line in stderr.splitlines() if not re.match(r"[a-z ]+: \d+ %", line)]


def test_from_recordings_to_shards(audio_dir, tmp_path):
    built = run("build", audio_dir, tmp_path / "set", "--samples", 2205, "--hop=1000", "--chunks-per-shard", 100)
    assert built.returncode == 0, built.stderr
    assert "kept 8 recordings" in built.stdout
    assert without_progress(built.stderr) == []
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


def test_dry_run_finds_other_settings_and_writes_nothing(audio_dir, data_dir, tmp_path):
    before = contents(data_dir)
    fitting = ["--samples", 2205, "--valid", 0.2, "--chunks-per-shard", 100]
    assert run("build", audio_dir, data_dir, *fitting, "--hop", 1000, "--dry-run").returncode == 0
    other = run("build", audio_dir, data_dir, *fitting, "--hop", 999, "--dry-run")
    assert other.returncode == 1
    assert "was built with" in other.stderr
    assert contents(data_dir) == before
    assert run("build", audio_dir, tmp_path / "new", "--dry-run").returncode == 0
    assert not (tmp_path / "new").exists()


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


@pytest.mark.parametrize(
    ("how", "code"),
    [
        pytest.param(signal.SIGINT, 130, marks=pytest.mark.slow(area="building")),
        (signal.SIGTERM, 130),
        pytest.param(signal.SIGKILL, -9, marks=pytest.mark.slow(area="building")),
    ],
)
def test_a_stopped_build_leaves_no_process_and_continues(tmp_path, how, code):
    audio, out = tmp_path / "audio", tmp_path / "set"
    audio.mkdir()
    for seed in range(20):
        soundfile.write(audio / f"{seed}.wav", music(40, 44100, 1, seed), 44100)
    words = command("build", audio, out, "--samples", 512, "--hop", 256, "--workers", 2)
    marked = os.environ | {"BUILD_MARK": str(tmp_path)}
    # What is started in the background by a shell ignores SIGINT, and so would all that comes of it.
    heed = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    process = subprocess.Popen(words, cwd=ROOT, stderr=subprocess.PIPE, text=True, env=marked, preexec_fn=heed)
    limit = time.monotonic() + 60
    while not any(journal.stat().st_size for journal in out.glob(".build/part-*/journal")):
        assert time.monotonic() < limit
        assert process.poll() is None
        time.sleep(0.001)
    process.send_signal(how)
    _, told = process.communicate(timeout=20)
    assert process.returncode == code, told
    if how != signal.SIGKILL:
        assert without_progress(told) == ["error: interrupted; run the same command again to continue"]
    while workers_of(tmp_path):
        assert time.monotonic() < limit
        time.sleep(0.05)
    assert [path.name for path in out.iterdir()] == [".build"]
    again = run(*words[3:])
    assert again.returncode == 0, again.stderr
    assert run("verify", out).returncode == 0
    assert not (out / ".build").exists()


def test_array_tasks_and_their_merge(audio_dir, tmp_path):
    flags = ["--samples", 2205, "--hop", 1000, "--chunks-per-shard", 100, "--workers", 1]
    tasks = [command("build", audio_dir, tmp_path / "set", *flags, "--task", f"{i}/3") for i in (1, 2, 3)]
    running = [
        subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for words in tasks
    ]
    for process in running:
        _, told = process.communicate(timeout=1000)
        assert process.returncode == 0, told
    merged = run("merge", tmp_path / "set")
    assert merged.returncode == 0, merged.stderr
    assert run("build", audio_dir, tmp_path / "whole", *flags).returncode == 0
    assert contents(tmp_path / "set") == contents(tmp_path / "whole")


def test_the_second_of_two_builds_is_told_so(tmp_path):
    audio, out = tmp_path / "audio", tmp_path / "set"
    audio.mkdir()
    soundfile.write(audio / "0.wav", music(200, 44100), 44100)
    words = command("build", audio, out, "--samples", 512, "--hop", 256, "--workers", 1)
    first = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    limit = time.monotonic() + 60
    while not list(out.glob(".build/part-*/journal")):
        assert time.monotonic() < limit
        assert first.poll() is None
        time.sleep(0.001)
    first.send_signal(signal.SIGSTOP)  # it lives, however long the second takes to start
    try:
        second = run(*words[3:])
    finally:
        first.send_signal(signal.SIGCONT)
    assert second.returncode == 1
    assert second.stderr.startswith(f"error: another build is writing to {out} (host ")
    assert f"process {first.pid}" in second.stderr
    assert second.stderr.count("\n") == 1
    _, told = first.communicate(timeout=1000)
    assert first.returncode == 0, told
    assert run("verify", out).returncode == 0


@pytest.mark.parametrize("room", [3000, 20_000, 100_000])
def test_a_full_disk_is_one_line_and_leaves_nothing_half_written(audio_dir, tmp_path, room):
    """A limit on the size of files stands for the disk's: writing fails in the middle."""
    out = tmp_path / "set"
    words = ["build", audio_dir, out, "--samples", 2205, "--hop", 1000, "--workers", 1]

    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))

    full = subprocess.run(command(*words), cwd=ROOT, capture_output=True, text=True, timeout=1000, preexec_fn=limit)
    assert full.returncode == 1
    *progress, told = full.stderr.splitlines()
    assert told.startswith(f"error: {out} cannot take more (File too large): make room")
    assert all(line.startswith(("looking at files: ", "building: ")) for line in progress)  # on a busy machine
    assert not out.exists() or [path.name for path in out.iterdir()] == [".build"]
    again = run(*words)
    assert again.returncode == 0, again.stderr
    assert run("verify", out).returncode == 0


def test_a_folder_that_cannot_be_written(audio_dir):
    refused = run("build", audio_dir, "/proc/never")
    assert refused.returncode == 1
    assert refused.stderr.startswith("error: /proc/never")
    assert refused.stderr.count("\n") == 1


def test_workers_do_not_import_torch():
    code = "import sys, shards.building.build, shards.building.part; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["build", "a"], "missing: out_dir; see: python -m shards build --help"),
        (["bild", "a", "b"], "no command 'bild'; did you mean build?"),
        (["build", "a", "b", "--rate", "0.5"], "--rate: 0.5 is not a whole number"),
        (["build", "a", "b", "--valid", "x"], "--valid: x is not a number"),
        (["build", "a", "b", "--level=loud"], "--level: loud is none of peak, rms, robust, none"),
        (["build", "a", "b", "--task"], "--task: the value is missing; see: python -m shards build --help"),
        (["build", "a", "b", "--secnds", "3"], "unrecognized arguments: --secnds 3; did you mean --seconds?"),
        (["verify", "a", "\x1b[2J"], r"unrecognized arguments: \x1b[2J"),
    ],
)
def test_a_wrong_command_line_is_one_line(words, expected, capsys):
    assert main(words) == 2
    assert capsys.readouterr() == ("", f"error: {expected}\n")


@pytest.mark.parametrize("name", ["build", "merge", "inspect", "verify", "practice"])
def test_help_has_types_in_plain_words(name, capsys):
    with pytest.raises(SystemExit):
        main([name, "--help"])
    told = capsys.readouterr().out
    assert told.startswith(f"usage: python -m shards {name} [options]")
    assert "class '" not in told
    assert "type: " not in told
