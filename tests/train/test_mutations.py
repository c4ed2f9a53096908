"""Damaged and hostile folders by the thousand: readers succeed, or end with their package's error in one line.

11,300 mutations with fixed seeds, two to three minutes on one core. JSON files get other values (deleted keys, other
types, huge numbers, deep nesting, half of a surrogate pair), mostly with the checksum that belongs to them; all files
get other bytes (flipped, cut, empty), which the checksums must notice: no value may differ without a word.
"""

import contextlib
import copy as copies
import io
import json
import random
import shutil
import signal
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

import audiovae
from audiovae import ModelError
from audiovae.saved.model_folder import describe
from shards import DataError
from shards.files.sealing import OWN, own_checksum, sealed
from shards.inspect import inspect, summary
from shards.manifest import Manifest
from tests.train.conftest import copy_evaluated
from train.cli.parser import parse
from train.cli.presets import presets
from train.cli.settings_files import check_file
from train.cli.which_samples import which_samples
from train.config import RUNS
from train.errors import TrainError
from train.evaluation.compare import differences_of_data, read_report, table_row
from train.evaluation.measuring.summary_file import CHUNKS
from train.evaluation.report.comparison import ComparedRun, Comparison, template_variables
from train.evaluation.report.rendering import render
from train.runs import checkpoint
from train.runs.lines import read_points
from train.runs.record import Record, checksum
from train.runs.requeue import decide, read_job_exit
from train.runs.run_folder import RunDir
from train.runs.sealed_lines import CHECKSUM, checksum_of, damaged_lines, read_sealed
from train.runs.status import status
from train.tracking.wandb_sync import sync

pytestmark = pytest.mark.slow(area="damage")
ODD: list[Any] = [
    *(None, True, -1, 0, 2**31, 2**63, 2**100, 10**400, 1.5, -1e-300, 1e308, float("inf"), float("nan")),
    *("", "x", "\ud800", "a\x1b[31m\nb", "[/red]", "../../x", "\0", "9" * 5000, "x" * 100_000),
    *([], {}, [[]], [None], {"": None}, [1] * 1000),
]
LONGEST_S = 10.0
Seal = tuple[str, Callable[[dict[str, Any]], str]]
# The key of the checksum and the function that makes it, by the name of the file.
SEALS: dict[str, Seal] = {
    "run.json": ("sha256", checksum),
    "manifest.json": ("sha256", checksum),
    **dict.fromkeys(("config.json", "facts.json", "metrics.json"), (OWN, own_checksum)),
}


def nested(depth: int) -> Any:
    value: Any = 1
    for place in range(depth):
        value = [value] if place % 2 else {"x": value}
    return value


def places(value: Any, path: tuple = ()) -> list[tuple]:
    """The places of all values in a JSON value, of long lists only the first and the last entry."""
    if isinstance(value, dict):
        inner = list(value.items())
    elif isinstance(value, list):
        inner = list(enumerate(value))
        inner = inner[:2] + inner[-1:] if len(inner) > 3 else inner
    else:
        inner = []
    return [path, *(place for key, one in inner for place in places(one, (*path, key)))]


def other_value(value: Any, rng: random.Random) -> Any:
    """The value with one change somewhere inside."""
    value = copies.deepcopy(value)
    path = rng.choice(places(value))
    new = rng.choice([*ODD, nested(20), nested(60)])
    if not path:
        return new
    holder = value
    for key in path[:-1]:
        holder = holder[key]
    if rng.random() < 0.2:
        del holder[path[-1]]
    elif rng.random() < 0.1 and isinstance(holder, dict):
        holder[rng.choice(["", "x", "\ud800", "format", "\n"])] = new
    else:
        holder[path[-1]] = new
    return value


def other_bytes(content: bytes, rng: random.Random) -> bytes:
    """The content with other bytes."""
    place = rng.randrange(len(content) + 1)
    kind = rng.randrange(6)
    if kind == 0:
        return content[:place]
    if kind == 1:
        return b""
    if kind == 2:
        return content[:place] + rng.randbytes(8) + content[place:]
    if kind == 3:
        return b"[" * 5000 + content
    spoiled = bytearray(content)
    for _ in range(rng.choice([1, 1, 20])):
        if spoiled:
            spoiled[rng.randrange(len(spoiled))] ^= 1 << rng.randrange(8)
    return bytes(spoiled)


def spoiled(file: Path, content: bytes, rng: random.Random) -> bytes:
    """Another content of a file."""
    if rng.random() < 0.25 or file.suffix not in (".json", ".jsonl"):
        return other_bytes(content, rng)
    if file.suffix == ".json":
        return other_json(content, SEALS.get(file.name), rng)
    lines = content.splitlines()
    place = rng.randrange(len(lines))
    lines[place] = other_json(lines[place], (CHECKSUM, checksum_of), rng)
    return b"\n".join(lines) + b"\n"


def other_json(content: bytes, seal: Seal | None, rng: random.Random) -> bytes:
    """JSON with one change, and nearly always with the checksum that belongs to it."""
    value = json.loads(content)
    is_sealed = seal is not None and seal[0] in value
    if is_sealed:
        del value[seal[0]]
    value = other_value(value, rng)
    if is_sealed and isinstance(value, dict) and rng.random() < 0.9:
        value[seal[0]] = seal[1](value)
    return json.dumps(value).replace("Infinity", "1e400").encode()


def one_place(_: Path, content: bytes, rng: random.Random) -> bytes:
    """The content changed at one place, without a checksum that belongs to it."""
    place, kind = rng.randrange(len(content)), rng.randrange(10)
    if kind == 0:
        return content[:place]
    if kind == 1:
        return content[:place] + rng.randbytes(rng.randrange(1, 9)) + content[place:]
    if kind == 2:
        return content[:place] + content[place + rng.randrange(1, 9) :]
    return content[:place] + bytes([content[place] ^ 1 << rng.randrange(8)]) + content[place + 1 :]


class Readers:
    """Calls readers and keeps what went wrong in them."""

    def __init__(self, *errors: type[Exception]):
        self.errors, self.failures = errors, []
        self.good = self.bad = 0

    def call(self, what: str, reader: Callable[[], Any]) -> None:
        out, began = io.StringIO(), time.monotonic()
        signal.alarm(int(3 * LONGEST_S))
        try:
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
                reader()
            self.good += 1
        except self.errors as error:
            self.bad += 1
            text = str(error)
            if "\n" in text.replace("\n  ", "") or len(text) > 5000:
                self.failures.append(f"{what}: no short line: {text[:300]!r}")
        except BaseException as error:
            self.failures.append(f"{what}: {type(error).__name__}: {str(error)[:300]}{_where(error)}")
        signal.alarm(0)
        if time.monotonic() - began > LONGEST_S:
            self.failures.append(f"{what}: took {time.monotonic() - began:.0f} s")


def _where(error: BaseException) -> str:
    """Where the error was raised: the last lines of the project and of all."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if "site-packages" not in frame.filename and "/lib/python" not in frame.filename]
    return "".join(f", {Path(frame.filename).name}:{frame.lineno}" for frame in (*own[-1:], *frames[-1:]))


def mutate(
    folder: Path,
    files: list[Path],
    count: int,
    seed: int,
    readers: Readers,
    read: Callable[[str], None],
    spoil: Callable[[Path, bytes, random.Random], bytes] = spoiled,
) -> None:
    """Spoils one file of a folder after the other, calls `read` with the name of the mutation, and mends the file."""
    rng = random.Random(seed)
    handler = signal.signal(signal.SIGALRM, _give_up)
    try:
        for number in range(count):
            file = folder / rng.choice(files)
            content = file.read_bytes()
            file.write_bytes(spoil(file, content, rng))
            read(f"mutation {number} of {file.relative_to(folder)}")
            file.write_bytes(content)
    finally:
        signal.signal(signal.SIGALRM, handler)
    assert not readers.failures, f"{len(readers.failures)} failures:\n" + "\n".join(readers.failures[:30])
    assert readers.good or spoil is one_place, "some do no harm"
    assert readers.bad, "some are told"


def _give_up(*_: object) -> None:
    raise TimeoutError("it hangs")


@pytest.fixture(scope="module")
def whole(tmp_path_factory, straight, data_dir):
    """A finished run with a report and steps of W&B, and its data; spoiled and mended again."""
    folder = tmp_path_factory.mktemp("whole")
    copy_evaluated(folder, straight("vae"), data_dir)
    decision = {"time": 1.0, "job": "7", "attempt": 1, "began": True, "newest": 3, "again": True, "why": "saved"}
    (folder / "run" / "jobs.jsonl").write_text(json.dumps(decision) + "\n")
    (folder / "run" / "preflight.json").write_text('{"time": 1.0, "bytes": 9, "save_s": 0.1, "job_s": null}\n')
    (folder / "run" / "wandb" / "offline-run-1").mkdir(parents=True)
    file = folder / "run" / "report" / "metrics.json"
    summary = json.loads(file.read_text())
    del summary[CHUNKS]  # otherwise no changed metrics.csv would be looked at
    file.write_text(json.dumps(sealed(summary)))
    return folder


@pytest.mark.parametrize("family", ["vae", "hvae", "vqvae"])
def test_models(family, straight, tmp_path):
    shutil.copytree(straight(family) / "model", tmp_path / "model")
    files = [Path(name) for name in ["config.json"] * 4 + ["facts.json"] * 2 + ["model.safetensors"]]
    readers = Readers(ModelError)

    def read(what: str) -> None:
        readers.call(what, lambda: audiovae.load(tmp_path / "model"))

    mutate(tmp_path / "model", files, 200, 1, readers, read)


@pytest.mark.parametrize("family", ["vae", "hvae", "vqvae"])
def test_no_description_differs_without_a_word(family, straight, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(straight(family) / "model", folder)
    readers = Readers(ModelError)
    wanted = audiovae.load(folder)

    def same() -> None:
        model = audiovae.load(folder)
        assert describe(model) == describe(wanted)

    mutate(folder, [Path("config.json")], 500, 7, readers, lambda what: readers.call(what, same), one_place)


def test_no_line_differs_without_a_word(whole):
    """Each line that is read is one that was written; the others count as damaged."""
    run, readers = whole / "run", Readers(OSError)
    files = {"metrics.jsonl": read_sealed, "attempts.jsonl": read_sealed}
    written = {name: [repr(row) for row in read(run / name)] for name, read in files.items()}

    def unprotected(row: str) -> bool:
        """Whether it differs only in the name of its checksum, which then counts as another entry."""
        return any(row.startswith(one[:-1]) for one in written["metrics.jsonl"] + written["attempts.jsonl"])

    def same() -> None:
        for name, read in files.items():
            content = (run / name).read_bytes()
            found = [repr(row) for row in read(run / name)]
            assert [row for row in found if row not in written[name] and not unprotected(row)] == []
            # A line may be gone without a trace only where the file was cut.
            lines = sum(map(bool, map(bytes.strip, content.split(b"\n")[:-1])))
            assert len(found) + damaged_lines(run / name) >= lines
            if len(found) < len(written[name]) and damaged_lines(run / name):
                raise OSError("told")

    def read(what: str) -> None:
        readers.call(what, same)

    mutate(run, [Path(name) for name in files], 2000, 8, readers, read, one_place)


def test_no_checkpoint_differs_without_a_word(whole):
    run = whole / "run"
    newest = checkpoint.all_checkpoints(run / "checkpoints")[0]
    wanted, kept = checkpoint.load(newest).state, RunDir.open(run).record
    readers = Readers(TrainError, ValueError)

    def same() -> None:
        if problem := checkpoint.damage(newest):
            raise ValueError(problem)
        assert checkpoint.load(newest).state == wanted
        assert Record.from_bytes((newest / "run.json").read_bytes()) == kept

    def read(what: str) -> None:
        readers.call(what, same)

    names = [newest.relative_to(run) / name for name in ("manifest.json", "state.json", "run.json", "config.json")]
    mutate(run, names, 600, 9, readers, read, one_place)


def test_settings(tmp_path):
    """A settings file of another kind is one line; every twentieth goes through the whole parser."""
    text = Path(presets()["hvae_tiny"]).read_bytes()
    file, readers = tmp_path / "settings.yaml", Readers(TrainError)
    file.write_bytes(text)
    words = ["hvae", "--data", "d", "--run-dir", str(tmp_path / "run"), "--config", str(file)]

    def other_settings(_: Path, content: bytes, rng: random.Random) -> bytes:
        if rng.random() < 0.4:
            return other_bytes(content, rng)
        return yaml.safe_dump(other_value(yaml.safe_load(content), rng), allow_unicode=True).encode(errors="replace")

    def read(what: str) -> None:
        if int(what.split()[1]) % 20:
            readers.call(what, lambda: check_file(file, "--config x", RUNS["hvae"]))
        else:
            readers.call(what, lambda: parse(words))

    mutate(tmp_path, [Path(file.name)], 800, 10, readers, read, other_settings)
    assert not (tmp_path / "run").exists()


def test_models_without_checksums(straight, tmp_path):
    """So that damaged weights are read, and facts are written into a new card."""
    folder = tmp_path / "model"
    shutil.copytree(straight("vae") / "model", folder)
    about = json.loads((folder / "config.json").read_text())
    del about["sha256"], about[OWN]
    (folder / "config.json").write_text(json.dumps(about))
    readers = Readers(ModelError)

    def read(what: str) -> None:
        (folder / "README.md").unlink(missing_ok=True)
        facts = (folder / "facts.json").read_bytes()
        readers.call(what, lambda: audiovae.add_measures(folder, {"mse": 0.1}, {}))
        (folder / "facts.json").write_bytes(facts)

    mutate(folder, [Path("model.safetensors"), Path("facts.json")], 200, 2, readers, read)


def test_manifests(whole):
    readers = Readers(DataError)

    def read(what: str) -> None:
        readers.call(f"{what}: inspect", lambda: inspect(whole / "set"))
        readers.call(f"{what}: summary", lambda: summary(Manifest.load(whole / "set")))

    mutate(whole / "set", [Path("dataset.json")], 2500, 3, readers, read)


def test_runs(whole, tmp_path):
    run, data = whole / "run", whole / "set"
    names = ["run.json"] * 3 + ["metrics.jsonl"] * 3 + ["attempts.jsonl"] * 3 + ["jobs.jsonl", "preflight.json", "DONE"]
    newest = max(path.name for path in (run / "checkpoints").iterdir())
    names += [f"checkpoints/{newest}/state.json", f"checkpoints/{newest}/manifest.json"]
    readers = Readers(TrainError, DataError, OSError)

    def read(what: str) -> None:
        for path in (run / "checkpoints").glob("*/run.json"):
            path.unlink()  # so that no copy takes the place of run.json
        readers.call(f"{what}: status", lambda: status(SimpleNamespace(run_dir=run, json=False)))
        readers.call(f"{what}: status --json", lambda: status(SimpleNamespace(run_dir=run, json=True)))
        asked = SimpleNamespace(run_dir=run, data=data, step=3, wav=None, json=True)
        readers.call(f"{what}: which-samples", lambda: which_samples(asked))
        readers.call(f"{what}: requeue", lambda: decide(read_job_exit(run, None, code=1)))

    mutate(run, [Path(name) for name in names], 1500, 4, readers, read)


def test_reports(whole):
    run = whole / "run"
    names = (
        ["report/metrics.json"] * 5 + ["report/metrics.csv"] + ["metrics.jsonl"] * 2 + ["run.json", "attempts.jsonl"]
    )
    readers = Readers(TrainError, DataError, OSError)

    def compare() -> None:
        one, two = read_report(run, "one"), read_report(run, "two")
        rows = [table_row(each) for each in (one, two)]
        warnings = differences_of_data([one, two])
        points = read_points(run / "metrics.jsonl")
        runs = [ComparedRun(one.name, one.run, one.summary, points, row) for row in rows]
        render("comparison.html", **template_variables(Comparison(runs, [], 22050, warnings, "data")))

    mutate(run, [Path(name) for name in names], 1000, 5, readers, lambda what: readers.call(what, compare))


def test_uploads(whole, monkeypatch):
    """Without W&B itself: what is sent is only counted."""
    run, sent = whole / "run", []
    monkeypatch.setattr("train.tracking.wandb_sync.send", lambda run, mode, rows: sent.append(len(rows)))
    (run / "wandb" / "steps.json").write_text('{"offline-run-1": {"bytes": 0, "steps": [1, 2], "attempt": 1}}')
    part = run / "wandb" / "offline-run-1" / f"run-{RunDir.open(run).run_id}.wandb"
    part.write_bytes(b"")
    monkeypatch.setattr("train.tracking.wandb_run.points_of_part", lambda file: [(1, 1)])
    names = ["metrics.jsonl"] * 3 + ["run.json", "wandb/steps.json"]
    readers = Readers(TrainError, DataError, OSError)
    asked = SimpleNamespace(run_dir=run, prepare=True)
    mutate(run, [Path(name) for name in names], 600, 6, readers, lambda what: readers.call(what, lambda: sync(asked)))
    assert sent
