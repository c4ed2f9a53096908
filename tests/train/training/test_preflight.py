"""The preflight check, and the forecast of what remains of a run."""

import dataclasses
import shutil
import socket
from types import SimpleNamespace

import pytest
import torch

from shards import Manifest
from tests.train.conftest import flags, train
from train.cli.parser import parse
from train.errors import TrainError
from train.optim.snapshot import Snapshot
from train.runs import checkpoint
from train.runs.forecast import forecast, lead_s, room_needed
from train.runs.sealed_lines import read_sealed
from train.tracking.wandb_settings import answers
from train.training.preflight import disk, goodput, processes
from train.training.preflight.disk import bytes_of, check_room, equal
from train.training.preflight.outlook import job_limits
from train.training.preflight.processes import Report, disagreement, summary
from train.training.preflight.wandb_server import reachable_mode

ALIKE = [Report(rank, f"n{1 + rank // 2}", "cpu", "2.11", "abc", "") for rank in range(4)]


def changed(rank: int, **values: str) -> list[Report]:
    return [dataclasses.replace(report, **values) if report.rank == rank else report for report in ALIKE]


def test_like_processes_agree():
    assert disagreement(ALIKE) == ""
    assert summary(ALIKE) == "4 processes on cpu: n1 (0, 1), n2 (2, 3)"


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"problem": "no disk"}, "n2 (process 2): no disk"),
        ({"torch": "2.12"}, "torch is 2.11 on n1, but 2.12 on n2"),
        ({"data": "other"}, "data is abc on n1, but other on n2"),
        ({"device": "H200"}, "n1 computes on cpu, but n2 on H200"),
    ],
)
def test_the_different_process_is_named(values, expected):
    assert expected in disagreement(changed(2, **values))


def test_gpus_of_two_kinds_are_reported_and_allowed():
    mixed = [dataclasses.replace(report, device=f"GPU {report.rank // 2}") for report in ALIKE]
    assert disagreement(mixed) == ""
    assert "the slower kind sets the pace" in summary(mixed)


def test_equal_means_bit_for_bit():
    value = {"a": torch.tensor([1.0, float("nan")]), "b": torch.tensor(3)}
    assert equal(value, {name: tensor.clone() for name, tensor in value.items()})
    assert not equal(value, {**value, "b": torch.tensor(4)})
    assert not equal(value, {**value, "b": torch.tensor(3.0)})
    assert not equal(value, {**value, "a": torch.tensor([[1.0, float("nan")]])})
    assert not equal(value, {**value, "c": torch.tensor(1)})
    assert not equal({"a": torch.tensor([0.0])}, {"a": torch.tensor([-0.0])})


def test_a_disk_that_gives_back_something_else_is_found(tmp_path, monkeypatch):
    made = Snapshot({"w": torch.zeros(3)}, {}, {}, 0, {"step": 0})

    def save(folder, *_):
        (folder / "step-00000000").mkdir(parents=True)
        (folder / "step-00000000" / "manifest.json").write_text('{"files": {}}')
        return folder / "step-00000000"

    monkeypatch.setattr(checkpoint, "save", save)
    back = dataclasses.replace(made, averages=made.averaged)  # a checkpoint's file of averages also has the buffers
    monkeypatch.setattr(checkpoint, "load", lambda _: dataclasses.replace(back, weights={"w": torch.ones(3)}))
    learner = type("Learner", (), {"model": None})
    with pytest.raises(TrainError, match="other values"):
        disk.round_trip(tmp_path, learner, made)
    assert not list(tmp_path.iterdir())
    monkeypatch.setattr(checkpoint, "load", lambda _: back)
    size, _ = disk.round_trip(tmp_path, learner, made)
    assert size == 13, "the manifest"


def test_room():
    assert room_needed(10, present=0, newest=3, best=True) == 50
    assert room_needed(10, present=4, newest=3, best=True) == 10  # a new one is written before an old one is deleted
    assert room_needed(10, present=9, newest=3, best=False) == 10


def test_too_little_room_is_an_error_before_anything_is_written(tmp_path, monkeypatch):
    _, config = parse(["vae", "--data", "d", "--run-dir", "r", "--checkpoint.keep", "2"])
    monkeypatch.setattr(shutil, "disk_usage", lambda _: type("Usage", (), {"free": 35_000_000}))
    assert "takes 8.0 MB and 1.0 s" in check_room(config, tmp_path, 8_000_000, 1.0)
    with pytest.raises(TrainError, match=r"35 MB free, .* 40 MB more; .* lower --checkpoint.keep \(now 2\)"):
        check_room(config, tmp_path, 10_000_000, 1.0)
    (tmp_path / "step-00000005").mkdir()
    check_room(config, tmp_path, 10_000_000, 1.0)


def test_bytes_of_a_snapshot():
    weights, averages, moments = ({name: torch.zeros(size)} for name, size in (("w", 2), ("w", 2), ("exp_avg.w", 3)))
    assert bytes_of(Snapshot(weights, averages, moments, 1, {"step": 1})) == 8 + 8 + 12


def test_forecast():
    seen = forecast(steps=10_000, step_s=1.0, every=1000, save_s=10.0, left_s=3600.0, job_s=3600.0)
    assert (seen.saves, seen.seconds, seen.lead_s) == (10, 10_010.0, 60)
    assert seen.jobs == 2  # 3540 s in each of three jobs
    assert forecast(100, 1.0, 1000, 10.0, 3600.0, 3600.0).jobs == 0
    assert forecast(100, 1.0, 1000, 10.0).jobs is None
    assert forecast(10_000, 1.0, 1000, 10.0, 50.0, 50.0).jobs is None  # jobs too short for a step and a save
    assert lead_s(step_s=20.0, save_s=60.0) == 360


def test_a_long_problem_in_any_script_reaches_all_processes():
    sent = dataclasses.replace(ALIKE[0], problem="路" * 5000)
    engine = SimpleNamespace(world=1, rank=0, device=torch.device("cpu"), sum=lambda values: values)
    (received,) = processes.exchange(engine, sent)
    assert received.problem == "?" * (processes.REPORT_BYTES // 3)
    assert received.host == "n1"


def test_what_a_killed_save_left_is_removed(tmp_path):
    (tmp_path / "step-00000007.tmp").mkdir()
    (tmp_path / "step-00000006").mkdir()
    checkpoint.remove_unfinished(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000006"]


def test_job_limits(monkeypatch):
    monkeypatch.delenv("SLURM_JOB_END_TIME", raising=False)
    assert job_limits() == (None, None)
    monkeypatch.setenv("SLURM_JOB_START_TIME", "1000")
    monkeypatch.setenv("SLURM_JOB_END_TIME", "4600")
    left, lasts = job_limits()
    assert lasts == 3600
    assert left < 0


def test_wandb_falls_back_to_offline(monkeypatch):
    _, config = parse(["vae", "--data", "d", "--run-dir", "r", "--tracking.wandb", "online"])
    for name in ("HTTPS_PROXY", "https_proxy"):
        monkeypatch.delenv(name, raising=False)
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"http://127.0.0.1:{server.getsockname()[1]}"
        monkeypatch.setenv("WANDB_BASE_URL", address)
        assert reachable_mode(config) == ("online", f"W&B at {address} answers")
    mode, line = reachable_mode(config)
    assert mode == "offline"
    assert "does not answer: offline" in line
    assert config.tracking.wandb == "online", "the settings stay as they were given"
    config.tracking.wandb = "offline"
    assert reachable_mode(config) == ("offline", "")
    assert not answers("http://[bad")


def test_bad_shards_end_a_run_before_it_begins(data_dir, tmp_path):
    """The middle of each shard is zeros; what begins or ends with zeros is found before."""
    bad = tmp_path / "bad"
    shutil.copytree(data_dir, bad)
    stride = Manifest.load(bad).chunk_format.stride
    for shard in bad.glob("train-*.tar"):
        with open(shard, "r+b") as file:
            size = file.seek(0, 2)
            file.seek(stride)
            file.write(bytes(size - 2 * stride - 1024))
    said = train(flags("vae", bad, tmp_path / "run"), processes=2, code=1)
    (line,) = [line for line in said.splitlines() if line.startswith("error:")]
    assert "preflight" in line
    assert "chunks looked at are damaged" in line
    assert not (tmp_path / "run" / "attempts.jsonl").exists()


def test_two_processes_meet(data_dir, tmp_path):
    said = train(flags("vae", data_dir, tmp_path / "run", "--stop_at", "1"), processes=2, code=85)
    assert f"preflight: 2 processes on cpu: {socket.gethostname()} (0, 1)" in said
    (looked,) = read_sealed(tmp_path / "run" / "preflight.json")
    assert "crc32" in (tmp_path / "run" / "preflight.json").read_text()
    saved = sum(file.stat().st_size for file in (tmp_path / "run" / "checkpoints" / "step-00000001").iterdir())
    assert looked["bytes"] == pytest.approx(saved, rel=0.15)
    assert not (tmp_path / "run" / "preflight").exists()


def test_too_little_memory_for_a_save_is_refused_before_the_first_step():
    """16 bytes a parameter are needed to save, and as much again to compare what was read back."""
    assert disk.check_memory(1_000_000, 32_000_000)
    assert not disk.check_memory(1_000_000, 16_000_000)
    with pytest.raises(TrainError, match=r"process 0 needs 16.0 GB of host memory to save 1.00 billion"):
        disk.check_memory(1_000_000_000, 15_999_999_999)


def test_the_best_interval_between_saves():
    """Young's formula for small costs; no other interval keeps more of the time, and a save fits between two."""
    failures = 10_000 * 3600 / 1024
    assert goodput.daly(2.0, failures) == pytest.approx((2 * 2.0 * failures) ** 0.5, rel=0.01)
    assert goodput.daly(3 * failures, failures) == failures
    best = goodput.plan(1024, 2.0, 30.0)
    assert best.failure_s == pytest.approx(35156, abs=1)
    others = [goodput.goodput(best.best_s * factor, 2.0, 30.0, failures) for factor in (0.5, 0.8, 1.25, 2.0)]
    assert max(others) < best.goodput < 1
    assert goodput.plan(1024, 0.01, 300.0).best_s == 300.0
    assert goodput.plan(10**9, 1.0, 1.0).goodput == 0.0


def test_the_advice_names_the_numbers_behind_it():
    line = goodput.advice(1024, 2.0, 30.0, 0.5, 1000)
    assert line == (
        "save about every 6 min (--checkpoint.every 747; now 1,000): 1,024 processes with 10,000 h between failures "
        "of each fail once in 9.8 h, a save holds training up for 2 s and is written in 30 s; then 98.0 % of the time "
        "counts, with the present setting 98.0 %"
    )
    assert "--checkpoint.every" not in goodput.advice(1, 2.0, 30.0, None, 1000)
