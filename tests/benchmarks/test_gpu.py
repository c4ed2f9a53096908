"""The GPU command: what one part does to the others, and that it resumes; on a CPU, with tiny models."""

import json
import math
import re
import subprocess
import sys
import time
from dataclasses import replace
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.gpu import supervisor as supervising
from benchmarks.gpu.command import main
from benchmarks.gpu.parts.profile import idle_share
from benchmarks.gpu.parts.reader import content_hash
from benchmarks.gpu.plan import LEAST_SHARE_S, PARTS, parts_of, seconds_for
from benchmarks.gpu.results import FINISHED, OtherResultsError, Results, table
from benchmarks.gpu.rows import Notes
from benchmarks.gpu.supervisor import Supervisor

ROOT = Path(__file__).parents[2]
# Imports modules as on a machine where the hidden ones are not installed.
BARE = """
import importlib.metadata, json, sys
hidden, modules = {*json.loads(sys.argv[1])}, sys.argv[2:]
class Bare:
    def __init__(self, finders):
        self.finders = finders
    def find_spec(self, name, path=None, target=None):
        found = (finder.find_spec(name, path, target) for finder in self.finders)
        return None if name.partition(".")[0] in hidden else next(filter(None, found), None)
    def find_distributions(self, *words, **named):
        return importlib.metadata.MetadataPathFinder.find_distributions(*words, **named)
sys.meta_path = [Bare([finder for finder in sys.meta_path if hasattr(finder, "find_spec")])]
for module in modules:
    importlib.import_module(module)
"""
MACHINE = {"setting": {"device": "x86_64", "gpu": False, "torch": "2", "quick": True}, "torch": "2"}
# Stand-ins for the process of a part: they get its name and the file of its job.
STAND_IN = """
import json, os, sys, time
name, task = sys.argv[1:]
job = json.load(open(task))
open(os.path.join(job["folder"], "calls"), "a").write(name + "\\n")
def row(value):
    open(job["rows"], "w").write(json.dumps([dict(name="a", value=value, unit="", goal="", ok=None, note="")]))
if name == "peaks":
    row(1.0)
    os.kill(os.getpid(), 11)
if name == "loop":
    row(2.0)
    time.sleep(600)
if name == "reader":
    row(job["found"]["peaks"]["a"] + 2)
if name == "resume":
    sys.exit("no such device")
"""


@pytest.fixture
def stand_ins(tmp_path, monkeypatch):
    """supervise(names, minutes, folder) -> (unfinished parts, results), with processes that need no torch."""
    monkeypatch.setattr(supervising, "GRACE_S", 0.1)
    script = tmp_path / "stand_in.py"
    script.write_text(STAND_IN)
    monkeypatch.setattr(Supervisor, "words", lambda self, part, task: [sys.executable, str(script), part, str(task)])

    def supervise(names, fresh=False, minutes=1.0, loop_s=0.2):
        results = Results.open(tmp_path / "out", MACHINE, fresh, [])
        parts = [replace(part, seconds=loop_s) if part.name == "loop" else part for part in PARTS if part.name in names]
        unfinished = Supervisor(results, tmp_path, minutes, True, True, "", lambda line: None).run(parts)
        return unfinished, json.loads((tmp_path / "out" / "gpu.json").read_text())["parts"]

    return supervise


def test_a_crash_an_error_and_a_hang_end_one_part_alone(stand_ins, tmp_path, monkeypatch):
    monkeypatch.setattr(supervising, "seconds_for", lambda part, later, left: part.seconds)
    unfinished, parts = stand_ins(["peaks", "loop", "reader", "resume"])
    assert unfinished == ["peaks", "loop", "resume"]
    assert "SIGSEGV" in parts["peaks"]["status"]
    assert "longer" in parts["loop"]["status"]
    assert "exit code 1" in parts["resume"]["status"]
    assert "no such device" in parts["resume"]["log"]
    # Rows of a part that did not come to its end are kept, and later parts get them.
    assert [parts[name]["rows"][0]["value"] for name in ("peaks", "loop", "reader")] == [1.0, 2.0, 3.0]
    assert "**Not finished: its process was ended by SIGSEGV.**" in (tmp_path / "out" / "gpu.md").read_text()


def test_a_second_call_runs_what_is_not_finished(stand_ins, tmp_path):
    calls = tmp_path / "calls"
    stand_ins(["peaks", "reader", "resume"])
    assert calls.read_text().split() == ["peaks", "reader", "resume"]
    calls.unlink()
    stand_ins(["peaks", "reader", "resume"])
    assert calls.read_text().split() == ["peaks", "resume"]
    calls.unlink()
    stand_ins(["peaks", "reader"], fresh=True)
    assert calls.read_text().split() == ["peaks", "reader"]


def test_no_part_begins_when_the_time_is_up(stand_ins, tmp_path):
    unfinished, parts = stand_ins(["peaks", "reader"], minutes=0.01)
    assert unfinished == ["peaks", "reader"]
    assert not (tmp_path / "calls").exists()
    assert "no time" in parts["peaks"]["status"]


@given(
    st.lists(st.sampled_from(PARTS), min_size=1, unique=True), st.floats(min_value=-100, max_value=2000), st.integers()
)
def test_parts_never_get_more_time_than_is_left(parts, left, start):
    begin = left
    for i, part in enumerate(parts):
        seconds = seconds_for(part, parts[i + 1 :], left)
        assert 0 <= seconds <= max(left, 0)
        assert part.seconds or seconds == 0 or seconds >= LEAST_SHARE_S
        left -= seconds
    assert left <= begin


def test_results_of_another_machine_are_refused(tmp_path):
    Results.open(tmp_path, MACHINE, False, []).put("peaks", FINISHED, 1.0, [])
    other = {**MACHINE, "setting": {**MACHINE["setting"], "device": "NVIDIA H100"}}
    with pytest.raises(OtherResultsError, match=r"another device.*--fresh"):
        Results.open(tmp_path, other, False, [])
    assert Results.open(tmp_path, MACHINE, False, []).is_finished("peaks")
    assert not Results.open(tmp_path, MACHINE, True, ["peaks"]).is_finished("peaks")
    assert Results.open(tmp_path, MACHINE, True, ["loop"]).is_finished("peaks")
    (tmp_path / "gpu.json").write_text("{")
    with pytest.raises(OtherResultsError, match="--fresh"):
        Results.open(tmp_path, MACHINE, False, [])


def test_a_table_says_that_it_was_not_run_on_a_gpu():
    row = {"name": "a|b", "value": 1234.5, "unit": "s", "goal": "at most 1", "ok": False, "note": "x\ny"}
    content = {"machine": MACHINE, "parts": {"peaks": {"status": FINISHED, "seconds": 1, "rows": [row]}}}
    text = table(content)
    assert "not run on a GPU" in text.splitlines()[0]
    assert "| a/b | 1,234 | s | at most 1: **missed** | x y |" in text
    on_gpu = {**MACHINE, "setting": {**MACHINE["setting"], "gpu": True, "device": "NVIDIA H200", "quick": False}}
    assert table({"machine": on_gpu, "parts": {}}).splitlines()[0] == "# On one NVIDIA H200"


def test_a_measurement_that_fails_leaves_the_others(tmp_path):
    notes = Notes(tmp_path / "rows", 10)
    with notes.trying("first"):
        raise RuntimeError("CUDA error:\nan illegal memory access")
    notes.add("second", 1.01, at_most=1.02)
    notes.add("third", 0.5, at_least=0.9)
    rows = json.loads((tmp_path / "rows").read_text())
    assert rows[0] == {**rows[0], "name": "first", "value": None, "ok": None}
    assert "illegal memory access" in rows[0]["note"]
    assert [row["ok"] for row in rows] == [None, True, False]


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(1, 10)), min_size=1, max_size=20))
def test_idle_time_is_what_no_kernel_covers(kernels):
    spans = [(float(start), float(start + length)) for start, length in kernels]
    first, last = min(s for s, _ in spans), max(e for _, e in spans)
    covered = sum(any(s <= at < e for s, e in spans) for at in range(int(first), int(last)))
    assert math.isclose(idle_share(spans), 1 - covered / (last - first), abs_tol=1e-9)


def test_a_hash_sees_any_changed_or_moved_sample():
    audio = torch.randint(-32768, 32767, (3, 500), dtype=torch.int16)
    moved = audio.clone()
    moved[1, 7], moved[1, 8] = audio[1, 8], audio[1, 7] + 1
    assert (content_hash(audio) == content_hash(moved)).tolist() == [True, False, True]


def test_the_command_refuses_what_it_cannot_do(tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["redaer"])
    assert "redaer" in capsys.readouterr().err


@pytest.mark.slow(area="gpu")
def test_one_part_for_real_and_then_not_again(tmp_path, capfd):
    words = ["peaks", "--cpu", "--quick", "--out", str(tmp_path / "out"), "--folder", str(tmp_path / "work")]
    assert main(words) == 0
    rows = json.loads((tmp_path / "out" / "gpu.json").read_text())["parts"]["peaks"]["rows"]
    assert [row["name"] for row in rows if row["value"] is None] == []
    assert {"matmul bf16", "memory", "host to device"} <= {row["name"] for row in rows}
    capfd.readouterr()
    assert main(words) == 0
    assert "peaks: finished before" in capfd.readouterr().out


@pytest.mark.slow(area="gpu")
def test_every_part_runs_on_a_cpu(tmp_path, capfd):
    """The command with tiny models: no part and no measurement fails. One preset stands for three."""
    began = time.monotonic()
    names = [part.name for part in parts_of(True) if part.name not in ("preset-vae", "preset-hvae")]
    words = [
        *names,
        "--cpu",
        "--quick",
        "--minutes",
        "60",
        "--out",
        str(tmp_path / "out"),
        "--folder",
        str(tmp_path / "work"),
    ]
    assert main(words) == 0, capfd.readouterr().err
    parts = json.loads((tmp_path / "out" / "gpu.json").read_text())["parts"]
    assert [*parts] == names
    failed = [(name, row) for name, part in parts.items() for row in part["rows"] if "failed" in row["note"]]
    assert failed == [], f"after {time.monotonic() - began:.0f} s"
    values = {row["name"]: row["value"] for part in parts.values() for row in part["rows"]}
    assert values["losses after a resume, largest difference"] <= 1e-6
    assert values["batches that arrive changed"] == 0
    assert values["two processes on the CPU, gloo: losses, largest difference"] <= 1e-4


def test_the_wheels_are_what_the_parts_import():
    """All that the parts import beside torch, its needs, torchaudio and numpy is in benchmarks/wheels.sh."""
    script = (ROOT / "benchmarks" / "wheels.sh").read_text()
    collected = {plain(name) for name in re.search(r'names="([^"]+)"', script)[1].split()}
    constraints = {plain(line.partition("==")[0]) for line in (ROOT / "constraints.txt").read_text().splitlines()}
    assert collected <= constraints
    with_torch = {"torch", "torchaudio", "numpy", "filelock", "fsspec", "jinja2", "markupsafe", "sympy", "mpmath"}
    with_torch |= {"networkx", "triton", "setuptools"}
    allowed = collected | {plain(name) for name in with_torch}
    hidden = [
        module
        for module, names in packages_distributions().items()
        if not {plain(name) for name in names} & allowed and not (ROOT / module).is_dir()
    ]
    modules = ["benchmarks.gpu.command", "train.__main__", "train.training.attempt", "shards.building.build"]
    modules += sorted({f"benchmarks.gpu.parts.{part.module}" for part in PARTS})
    words = [sys.executable, "-c", BARE, json.dumps(hidden), *modules]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]


def plain(name: str) -> str:
    """A distribution's name as package indexes compare it."""
    return re.sub(r"[-_.]+", "-", name.strip()).lower()
