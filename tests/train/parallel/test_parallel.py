"""DDP and the stages of ZeRO train the same run, and resume each other's checkpoints. Two processes over gloo."""

import importlib.util
import json
import os
import socket
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests import preloaded
from tests.train.conftest import PATIENCE_S, environment, flags, points, train
from train.errors import TrainError
from train.parallel.launch_settings import ZeROSettings
from train.training.learner import passes_of_ranks

needs_deepspeed = pytest.mark.skipif(
    importlib.util.find_spec("deepspeed") is None, reason="DeepSpeed is not installed: pip install '.[deepspeed]'"
)


def ranks(result: Path, world: int, *strategies: str, script: str = "parallel_ranks", **more: str) -> dict[str, dict]:
    """The results of a script of ranks on `world` processes, which are forks of one that has imported torch."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {"WORLD_SIZE": world, "LOCAL_WORLD_SIZE": world, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    started = [
        preloaded.start(
            f"tests.train.{script}",
            [str(result), *strategies],
            environment(**{k: str(v) for k, v in {**shared, **more, "RANK": rank, "LOCAL_RANK": rank}.items()}),
        )
        for rank in range(world)
    ]
    try:
        with ThreadPoolExecutor(world) as pool:
            said = list(pool.map(lambda process: "".join(process.communicate(timeout=PATIENCE_S)), started))
    finally:
        for process in started:
            process.kill()
    assert [process.returncode for process in started] == [0] * world, "\n".join(said)[-6000:]
    return json.loads(result.read_text())


@pytest.fixture(scope="module")
def experiments(tmp_path_factory) -> dict[str, dict]:
    return ranks(tmp_path_factory.mktemp("parallel") / "result.json", 2)


@pytest.mark.slow(area="zero")
@needs_deepspeed
@pytest.mark.parametrize("family", ["vae", "hvae", "vqvae"])
def test_every_strategy_trains_the_same(experiments, family):
    mine = {name: facts for name, facts in experiments.items() if name.startswith(family)}
    assert len(mine) >= 4
    expected = mine[f"{family} ddp"]["norms"]
    for name, facts in mine.items():
        # Adam divides small sums by small sums: rounding in one step grows to about 0.1 % after seven.
        assert facts["norms"] == pytest.approx(expected, rel=5e-3), name
        assert facts["resumed"] == 0, f"{name}: a resumed run equals one without interruption, bit for bit"
        assert facts["taken up by ddp"] < 2e-3, name
        assert facts["skipped"], f"{name}: a step that is not finite on one process changes nothing on any"
        assert facts["exploded"], f"{name}: a step whose gradient is far too large changes nothing on any"
        assert facts["averaged"], f"{name}: the averaged model is whole on one process alone"


@pytest.mark.slow(area="zero")
@needs_deepspeed
def test_bf16_is_the_same_too(experiments, tmp_path):
    """Passes under autocast are close to float32, and resuming is exact here too."""
    found = ranks(tmp_path / "result.json", 2, "ddp", "zero 3", ACCELERATE_MIXED_PRECISION="bf16")
    assert len(found) == 6
    for name, facts in found.items():
        full = experiments[name]["norms"]
        assert facts["norms"][:3] == pytest.approx(full[:3], rel=0.05), name
        assert facts["norms"] != pytest.approx(full, rel=1e-5), f"{name}: bf16 was not used"
        assert facts["norms"][:3] == pytest.approx(found[f"{name.split()[0]} ddp"]["norms"][:3], rel=0.02), name
        assert facts["resumed"] == 0, name
        assert facts["skipped"], name


@pytest.mark.slow(area="zero")
@needs_deepspeed
def test_the_command_with_deepspeed(data_dir, straight, tmp_path):
    """Two processes with sharded weights stop, two with offloaded moments resume, and one process finishes."""
    run = tmp_path / "run"
    words = flags("vqvae", data_dir, run, "--data.microbatch", "2")
    zero = ["--use_deepspeed", "--zero_stage"]
    said = train([*words, "--stop_at", "3"], 2, launcher=[*zero, "3"])
    assert "all saved" in said
    train([*words, "--stop_at", "6"], 2, launcher=[*zero, "2", "--offload_optimizer_device", "cpu"])
    said = train(words)
    assert "from step 6" in said
    for a, b in zip(points(straight("vqvae")), points(run), strict=True):
        for name in ("loss/total", "model/perplexity", "valid/si_sdr"):
            if name in a:
                assert b[name] == pytest.approx(a[name], rel=5e-3, abs=1e-3), (a["step"], name)


@pytest.mark.slow(area="zero")
@needs_deepspeed
def test_uneven_numbers_of_passes_are_an_error_with_deepspeed(data_dir, tmp_path):
    words = flags("vae", data_dir, tmp_path / "run", "--data.batch", "5", "--data.microbatch", "2")
    said = train(words, 2, code=1, launcher=["--use_deepspeed", "--zero_stage", "2"])
    assert "error: data.batch 5 over 2 processes with data.microbatch 2" in said
    assert said.count("error: ") == 1


@given(st.integers(1, 64), st.integers(1, 16), st.integers(0, 9))
def test_passes_of_each_process(batch, world, microbatch):
    """As many passes as `micro_batches` yields for each process's rows."""
    counted = passes_of_ranks(batch, world, microbatch)
    assert len(counted) == world
    for rank, count in enumerate(counted):
        rows = len(range(rank, batch, world))
        assert count == len(range(0, rows, microbatch or max(rows, 1)))


def test_what_the_launcher_asked_for():
    assert ZeROSettings.of_launch({}) is None
    assert ZeROSettings.of_launch({"ACCELERATE_USE_DEEPSPEED": "false"}) is None
    on = {"ACCELERATE_USE_DEEPSPEED": "true"}
    assert ZeROSettings.of_launch(on) == ZeROSettings(2)
    full = {**on, "ACCELERATE_DEEPSPEED_ZERO_STAGE": "3", "ACCELERATE_DEEPSPEED_OFFLOAD_PARAM_DEVICE": "cpu"}
    assert ZeROSettings.of_launch(full) == ZeROSettings(3, offload_parameters=True)
    given = {"overlap_comm": False, "offload_optimizer": {"device": "cpu", "pin_memory": True}, "offload_param": None}
    settings = ZeROSettings(3, offload_optimizer=True, more={"zero_optimization": given})
    made = settings.config(0.5, "bf16", 4)
    assert made["zero_optimization"] == {
        "overlap_comm": False,
        "stage": 3,
        "offload_optimizer": {"device": "cpu", "pin_memory": True},
        "offload_param": {"device": "none"},
    }
    assert made["gradient_clipping"] == 0.5
    assert made["torch_autocast"]["enabled"]
    assert not ZeROSettings(1).config(1.0, "no", 1)["torch_autocast"]["enabled"]


@pytest.mark.parametrize(
    ("more", "content", "expected"),
    [
        ({"ACCELERATE_DEEPSPEED_ZERO_STAGE": "4"}, None, "choose --zero_stage"),
        ({"ACCELERATE_DEEPSPEED_OFFLOAD_OPTIMIZER_DEVICE": "nvme"}, None, "choose cpu or none"),
        ({"ACCELERATE_DEEPSPEED_OFFLOAD_PARAM_DEVICE": "cpu"}, None, "needs --zero_stage 3"),
        ({}, "[1]", "must be a JSON object"),
        ({}, "{", "must be a JSON object"),
        ({}, '{"zero_optimization": {"stage": 2}, "optimizer": {"type": "Adam"}}', "is set by "),
        ({}, '{"zero_optimization": {"stage": 0}}', "choose --zero_stage"),
    ],
)
def test_what_cannot_be_is_one_line(more, content, expected, tmp_path):
    environment = {"ACCELERATE_USE_DEEPSPEED": "true", **more}
    if content is not None:
        (tmp_path / "ds.json").write_text(content)
        environment["ACCELERATE_DEEPSPEED_CONFIG_FILE"] = str(tmp_path / "ds.json")
    with pytest.raises(TrainError, match=expected) as caught:
        ZeROSettings.of_launch(environment)
    assert "\n" not in str(caught.value)


def test_a_configuration_file_with_auto(tmp_path):
    zero = {"stage": 3, "reduce_bucket_size": "auto", "offload_param": None}
    content = {"train_batch_size": "auto", "zero_optimization": zero}
    (tmp_path / "ds.json").write_text(json.dumps(content))
    found = ZeROSettings.of_launch(
        {"ACCELERATE_USE_DEEPSPEED": "true", "ACCELERATE_DEEPSPEED_CONFIG_FILE": str(tmp_path / "ds.json")}
    )
    assert found == ZeROSettings(3, more={"zero_optimization": {"stage": 3, "offload_param": None}})


def test_without_deepspeed_the_remedy_is_named(monkeypatch):
    from train.parallel.zero import import_deepspeed

    monkeypatch.setitem(sys.modules, "deepspeed", None)
    monkeypatch.setenv("DS_ACCELERATOR", os.environ.get("DS_ACCELERATOR", "cpu"))
    with pytest.raises(TrainError, match="pip install deepspeed"):
        import_deepspeed()
