"""MFU, memory and GPU hours, without a GPU; and a profile that changes nothing."""

import gzip
import json
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file
from torch.utils.flop_counter import FlopCounterMode

import audiovae
from audiovae import Noise
from tests.train.arithmetic import RATE, SAMPLES, chunks, config_of, learner_of
from tests.train.conftest import flags, points, train
from train.cli.parser import parse
from train.errors import TrainError
from train.evaluation.measuring.heldout import to_audio
from train.parallel.engine import Engine
from train.runs.checkpoint import Retention, all_checkpoints, load, save
from train.training.learner import make_objective
from train.training.performance import device_use, profiling
from train.training.performance.device_use import DeviceUse
from train.training.performance.flops import flops_of_chunk
from train.training.performance.peaks import PEAKS, peak_flops, peak_of
from train.training.performance.profiling import StepProfile

FAMILIES = ("vae", "hvae", "vqvae")


def model_of(family):
    config = config_of(family)
    return config, audiovae.build(family, config.model, SAMPLES, RATE)


@pytest.mark.parametrize("family", FAMILIES)
def test_flops_are_those_of_a_real_pass_and_counting_changes_nothing(family):
    config, model = model_of(family)
    objective = make_objective(config, model)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    random = torch.get_rng_state()
    counted = flops_of_chunk(model, objective)
    assert torch.equal(torch.get_rng_state(), random)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())

    items = 3
    audio, rows = to_audio(chunks(items, 1), torch.device("cpu")), torch.arange(items)
    target = model.train().represent(audio)
    with FlopCounterMode(display=False) as counter:
        output = model(target, Noise(0, 0, rows, items))
        terms = model.distances(output.recon, target) | output.losses
        objective(terms, objective.weights_at(0)).mean().backward()
    assert counted == pytest.approx(counter.get_total_flops() / items, rel=0.01)
    assert counted > 1e5


@pytest.mark.parametrize(
    ("name", "bf16"),
    [
        ("NVIDIA H200", 989),
        ("NVIDIA H100 80GB HBM3", 989),
        ("NVIDIA H100 PCIe", 756),
        ("NVIDIA H100 NVL", 835),
        ("NVIDIA GH200 480GB", 989),
        ("NVIDIA A100-SXM4-80GB", 312),
        ("NVIDIA A100-PCIE-40GB", 312),
        ("NVIDIA L40S", 362),
        ("NVIDIA L4", 121),
        ("NVIDIA A10", 125),
        ("NVIDIA GeForce RTX 4090", 165.2),
        ("NVIDIA A10G", None),
        ("NVIDIA L40", None),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", None),
        ("NVIDIA GeForce RTX 3090 Ti", None),
        ("NVIDIA H100 80GB HBM3 MIG 1g.10gb", None),
        ("AMD Instinct MI300X", None),
    ],
)
def test_peaks_are_those_of_the_device(name, bf16):
    peak = peak_of(name)
    assert (peak and peak.bf16) == bf16
    assert peak_flops(name, "bf16") == (bf16 and bf16 * 1e12)
    if peak:
        assert peak_flops(name, "no") in (1e12 * peak.tf32, 1e12 * peak.fp32)


def test_each_peak_is_lower_the_more_exact_it_is():
    assert all(peak.bf16 > peak.tf32 >= peak.fp32 for peak in PEAKS.values())


@pytest.fixture
def four_gpus(monkeypatch):
    """An engine of four processes on GPUs, of which this one is rank 0; and the time."""
    clock = SimpleNamespace(now=1000.0)
    monkeypatch.setattr(device_use.time, "monotonic", lambda: clock.now)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA H200")
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: 20e9)
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda device: None)
    engine = SimpleNamespace(
        device=torch.device("cuda"), world=4, is_main=True, precision="bf16", largest=lambda here: here + 1
    )
    return engine, clock


def test_values_of_gpus(four_gpus):
    engine, clock = four_gpus
    use = DeviceUse(engine, 20e9)
    clock.now += 1800
    assert use.read(98_900.0) == {
        "perf/gpu_memory_gb": 21.0,
        "perf/gpu_hours": 2.0,
        "perf/mfu": pytest.approx(0.5),
    }
    use.earlier_s = 3600.0
    assert use.read(1.0)["perf/gpu_hours"] == 3.0
    assert "perf/mfu" not in DeviceUse(engine, None).read(1.0)


def test_a_cpu_has_no_such_values():
    engine = SimpleNamespace(device=torch.device("cpu"), world=2)
    assert DeviceUse(engine, 1e9).read(5.0) == {}
    assert DeviceUse(engine, 1e9).seconds is None


def test_flops_that_cannot_be_counted_are_told(four_gpus, capfd):
    assert device_use.flops_for_mfu(SimpleNamespace(), None, four_gpus[0]) is None
    assert "perf/mfu is not logged" in capfd.readouterr().err


def test_gpu_time_of_all_attempts_is_in_the_checkpoint(four_gpus, tmp_path):
    config = config_of("vae")
    (tmp_path / "checkpoints").mkdir()
    learner = learner_of("vae", config, Engine())
    assert "gpu_seconds" not in learner.snapshot().state
    _, clock = four_gpus
    learner.device_use = DeviceUse(four_gpus[0], None)
    clock.now += 100
    snapshot = learner.snapshot()
    assert snapshot.state["gpu_seconds"] == 400.0
    path = save(tmp_path / "checkpoints", learner.model, snapshot, Retention())
    written = (path / "manifest.json").read_bytes()
    clock.now += 50
    save(tmp_path / "checkpoints", learner.model, learner.snapshot(), Retention())
    assert (path / "manifest.json").read_bytes() == written  # the same state at another time is not saved again

    resumed = learner_of("vae", config, Engine())
    two_gpus = SimpleNamespace(**{**vars(four_gpus[0]), "world": 2})
    resumed.device_use = DeviceUse(two_gpus, None)
    resumed.restore(load(path))
    clock.now += 10
    assert resumed.snapshot().state["gpu_seconds"] == 420.0


@pytest.mark.parametrize("value", ["'a'", "-1", "NaN", "Infinity", "true", "[]"])
def test_gpu_time_that_is_no_time_is_refused(value, tmp_path):
    learner = learner_of("vae", config_of("vae"), Engine())
    (tmp_path / "checkpoints").mkdir()
    path = save(tmp_path / "checkpoints", learner.model, learner.snapshot(), Retention())
    state = (path / "state.json").read_text()
    (path / "state.json").write_text(state.replace("{", f'{{"gpu_seconds": {value},'.replace("'", '"'), 1))
    with pytest.raises(TrainError, match="gpu_seconds"):
        load(path)


def test_a_profile_changes_no_bit(data_dir, straight, tmp_path):
    run = tmp_path / "vqvae"
    out = train(flags("vqvae", data_dir, run, "--profile", "4"))
    assert "steps 4 to 6: profile in" in out
    (folder,) = (run / "profile").iterdir()
    assert (folder.name, [file.name for file in folder.iterdir()]) == ("step-00000004", ["trace.json.gz"])
    events = json.loads(gzip.decompress((folder / "trace.json.gz").read_bytes()))["traceEvents"]
    names = [event.get("name") for event in events]
    # The optimizer names its updates; there are as many as steps.
    assert sum(str(name).startswith("Optimizer.step") for name in names) == profiling.STEPS
    one, other = (all_checkpoints(path / "checkpoints")[0] for path in (straight("vqvae"), run))
    for file in ("training.safetensors", "model.safetensors", "optimizer.safetensors"):
        first, second = load_file(one / file), load_file(other / file)
        assert first.keys() == second.keys()
        assert all(torch.equal(first[name], second[name]) for name in first)
    losses = [[row.get("loss/total") for row in points(path)] for path in (straight("vqvae"), run)]
    assert losses[0] == losses[1]


def test_a_profile_that_fails_is_told_and_ends(tmp_path):
    said = []
    engine = SimpleNamespace(device=torch.device("cpu"), is_main=True)
    (tmp_path / "profile").write_text("no folder")
    profile = StepProfile(tmp_path, 2, engine, said.append)
    with profile:
        for step in range(5):
            with profile.around(step):
                torch.ones(2) + 1
    assert len(said) == 1
    assert said[0].startswith("warning: no profile of steps from 2 on")
    assert not torch.autograd._profiler_enabled()


def test_an_unfinished_profile_is_dropped(tmp_path):
    engine = SimpleNamespace(device=torch.device("cpu"), is_main=True)
    with StepProfile(tmp_path, 1, engine, print) as profile, profile.around(0):
        torch.ones(2) + 1
        assert torch.autograd._profiler_enabled()
    assert list(tmp_path.iterdir()) == []
    assert not torch.autograd._profiler_enabled()


def test_the_short_form_of_the_flag():
    words = ["vae", "--data", "x", "--run-dir", "y"]
    assert parse([*words, "--profile", "7"])[1].tracking.profile == 7
    assert parse([*words, "--profile=8"])[1].tracking.profile == 8
    assert parse(words)[1].tracking.profile == 0
