"""Checkpoints are complete or absent."""

import dataclasses
import json
import shutil
import tempfile
import threading
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import SafetensorError

import audiovae
from train.errors import TrainError
from train.optim.snapshot import HostCopies, Snapshot
from train.runs import async_save, checkpoint
from train.runs.async_save import Saver
from train.runs.checkpoint import Retention
from train.runs.record import checksum

CONFIG = {"trunk": {"strides": [21, 5], "channels": [8, 8], "blocks": 1, "kernel": 3}, "latent": 4}


@pytest.fixture
def model():
    torch.manual_seed(0)
    return audiovae.build("vae", CONFIG, 2205, 22050)


def snapshot(model, step: int) -> Snapshot:
    weights = {name: value.detach().clone() for name, value in model.state_dict().items()}
    averages = {name: value.detach() * 0.5 for name, value in model.named_parameters()}
    moments = {f"exp_avg.{name}": value.detach() * 0.1 for name, value in model.named_parameters()}
    return Snapshot(weights, averages, moments, 7, {"step": step, "epoch": 1, "consumed": 5})


def test_what_is_saved_is_loaded(model, tmp_path):
    before = snapshot(model, 12)
    path = checkpoint.save(tmp_path, model, before, Retention(2))
    assert path.name == "step-00000012"
    after = checkpoint.load(path)
    assert after.state.items() >= before.state.items()
    assert after.updates == 7
    for name in before.weights:
        assert torch.equal(after.weights[name], before.weights[name])
        assert torch.equal(after.averages[name], before.averaged[name])
    for name in before.moments:
        assert torch.equal(after.moments[name], before.moments[name])
    modes = {file.stat().st_mode & 0o777 for file in path.iterdir()}
    assert modes == {path.stat().st_mode & 0o666}, "colleagues may read what they may enter"
    used = audiovae.load(path)
    assert torch.equal(next(used.parameters()), next(iter(before.averages.values())))


def test_a_checkpoint_of_another_version_is_named(model, tmp_path):
    path = checkpoint.save(tmp_path, model, snapshot(model, 1), Retention(1))
    manifest = json.loads((path / "manifest.json").read_text())
    (path / "manifest.json").write_text(json.dumps({"files": manifest["files"]}))
    assert checkpoint.newest_intact(tmp_path) == path
    with pytest.raises(TrainError, match="format None, not 2"):
        checkpoint.load(path)
    newer = {"format": 4, "files": manifest["files"]}
    (path / "manifest.json").write_text(json.dumps(newer | {"sha256": checksum(newer)}))
    assert checkpoint.newest_intact(tmp_path) == path
    with pytest.raises(TrainError, match="format 4, not 2 or 3; resume with the version of the program that wrote it"):
        checkpoint.load(path)


@pytest.mark.parametrize("has_checksum", [True, False])
def test_an_altered_format_is_damage(has_checksum, model, tmp_path, capsys):
    """Older versions wrote manifests without a checksum."""
    older = checkpoint.save(tmp_path, model, snapshot(model, 1), Retention(2))
    newest = checkpoint.save(tmp_path, model, snapshot(model, 2), Retention(2))
    manifest = json.loads((newest / "manifest.json").read_text())
    if not has_checksum:
        del manifest["sha256"]
        (newest / "manifest.json").write_text(json.dumps(manifest))
        assert not checkpoint.damage(newest)
    (newest / "manifest.json").write_text(json.dumps(manifest | {"format": 3}))
    assert checkpoint.newest_intact(tmp_path) == older
    said = "manifest.json is not a manifest (its checksum does not match); renamed to damaged-step-00000002"
    assert said in capsys.readouterr().err


def test_a_changed_measure_is_never_the_best(model, tmp_path):
    for step, value in ((1, 10.0), (2, 5.0)):
        state = snapshot(model, step)
        state.state["valid_si_sdr"] = value
        checkpoint.save(tmp_path, model, state, Retention(2))
    file = tmp_path / "step-00000002" / "state.json"
    file.write_text(file.read_text().replace("5.0", "50."))
    assert checkpoint.best_checkpoint(tmp_path).name == "step-00000001"


def test_the_best_is_that_by_a_measure_in_its_direction(model, tmp_path):
    """Checkpoints of older versions have SI-SDR alone."""
    found = {1: {"si_sdr": 1.0, "mel": 0.7}, 2: {"si_sdr": 3.0, "mel": 0.9}, 3: {"si_sdr": 2.0, "mel": 0.5}}
    for step, values in found.items():
        state = snapshot(model, step)
        state.state |= {"valid": values, "valid_si_sdr": values["si_sdr"]}
        checkpoint.save(tmp_path, model, state, Retention(9))
    old = snapshot(model, 4)
    old.state["valid_si_sdr"] = 2.5
    checkpoint.save(tmp_path, model, old, Retention(9))
    best = {by: checkpoint.best_checkpoint(tmp_path, by) for by in ("si_sdr", "mel", "stft")}
    assert {by: path and checkpoint.step_of(path) for by, path in best.items()} == {"si_sdr": 2, "mel": 3, "stft": None}
    for by, kept in (("si_sdr", {2, 4}), ("mel", {3, 4}), ("stft", {4})):
        gone = {checkpoint.step_of(path) for path in checkpoint.deletable(tmp_path, Retention(1, best_by=by))}
        assert {1, 2, 3, 4} - gone == kept


def test_old_ones_go_only_after_the_new_one_is_there(model, tmp_path, monkeypatch):
    there_when_pruned = []
    real = shutil.rmtree

    def watched(path, **more):
        there_when_pruned.append((Path(path).name, [c.name for c in checkpoint.all_checkpoints(tmp_path)]))
        real(path, **more)

    for step in (1, 2):
        checkpoint.save(tmp_path, model, snapshot(model, step), Retention(2))
    monkeypatch.setattr(shutil, "rmtree", watched)
    checkpoint.save(tmp_path, model, snapshot(model, 3), Retention(2))
    assert [path.name for path in checkpoint.all_checkpoints(tmp_path)] == ["step-00000003", "step-00000002"]
    (state,) = (there for name, there in there_when_pruned if name == "step-00000001")
    assert "step-00000003" in state


def test_any_damage_to_any_file_is_found(model, tmp_path, capsys):
    checkpoint.save(tmp_path, model, snapshot(model, 1), Retention(9))
    whole = checkpoint.save(tmp_path, model, snapshot(model, 2), Retention(9))
    kept = tmp_path.parent / "kept"
    for name in sorted(path.name for path in whole.iterdir()):
        for harm in ("flip", "cut", "remove"):
            shutil.rmtree(kept, ignore_errors=True)
            shutil.copytree(whole, kept)
            content = bytearray((whole / name).read_bytes())
            if harm == "flip":
                content[len(content) // 2] ^= 4
                (whole / name).write_bytes(content)
            elif harm == "cut":
                (whole / name).write_bytes(content[: len(content) // 2])
            else:
                (whole / name).unlink()
            chosen = checkpoint.newest_intact(tmp_path)
            assert "renamed to damaged-" in capsys.readouterr().err
            assert chosen.name == "step-00000001", (name, harm)
            aside = next(tmp_path.glob("damaged-*"))
            shutil.rmtree(aside)
            shutil.copytree(kept, whole)
    assert checkpoint.newest_intact(tmp_path) == whole


def test_an_unfinished_save_counts_for_nothing(model, tmp_path):
    path = checkpoint.save(tmp_path, model, snapshot(model, 1), Retention(1))
    path.rename(tmp_path / "step-00000002.tmp")
    assert checkpoint.newest_intact(tmp_path) is None
    again = checkpoint.save(tmp_path, model, snapshot(model, 2), Retention(1))
    assert checkpoint.newest_intact(tmp_path) == again


def test_a_full_disk_loses_nothing(model, tmp_path, monkeypatch):
    checkpoint.save(tmp_path, model, snapshot(model, 1), Retention(1))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(100, 99, 1))
    with pytest.raises(TrainError, match="free disk space"):
        checkpoint.save(tmp_path, model, snapshot(model, 2), Retention(1))
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000001"]
    assert not checkpoint.damage(tmp_path / "step-00000001")


def test_safetensors_own_error_is_caught_too(model, tmp_path, monkeypatch):
    def full(*_):
        raise SafetensorError("Error while serializing: I/O error: No space left on device")

    checkpoint.save(tmp_path, model, snapshot(model, 1), Retention(1))
    monkeypatch.setattr(checkpoint, "save_file", full)
    with pytest.raises(TrainError, match=r"No space left.*free disk space"):
        checkpoint.save(tmp_path, model, snapshot(model, 2), Retention(1))
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000001"]


def test_a_manifest_cannot_point_elsewhere(model, tmp_path, monkeypatch):
    """Even where the file elsewhere is as described."""
    path = checkpoint.save(tmp_path, model, snapshot(model, 1), Retention(1))
    (tmp_path / "elsewhere").write_text("x")
    manifest = json.loads((path / "manifest.json").read_text())
    manifest["files"]["../elsewhere"] = checkpoint._describe(tmp_path / "elsewhere")
    del manifest["sha256"]
    (path / "manifest.json").write_text(json.dumps(manifest))
    assert "names a file outside of the checkpoint" in checkpoint.damage(path)


def test_a_run_is_never_begun_anew_over_damaged_checkpoints(model, tmp_path):
    assert checkpoint.newest_intact(tmp_path) is None
    path = checkpoint.save(tmp_path, model, snapshot(model, 1), Retention(1))
    (path / "optimizer.safetensors").unlink()
    with pytest.raises(TrainError, match="no checkpoint is intact"):
        checkpoint.newest_intact(tmp_path, set_aside=False)
    assert path.exists()
    for _ in range(2):
        with pytest.raises(TrainError, match="no checkpoint is intact"):
            checkpoint.newest_intact(tmp_path)
    assert not path.exists()


def test_a_disk_that_cannot_be_read_is_not_damage(model, tmp_path, monkeypatch):
    path = checkpoint.save(tmp_path, model, snapshot(model, 1), Retention(1))

    def stale(*_):
        raise OSError(116, "Stale file handle", "model.safetensors")

    monkeypatch.setattr(checkpoint, "_describe", stale)
    with pytest.raises(TrainError, match="Stale file handle"):
        checkpoint.newest_intact(tmp_path)
    assert path.exists()


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_what_must_stay_stays(data):
    """Whatever was saved and measured: the newest, the best and the round ones stay, and nothing else."""
    steps = sorted(data.draw(st.sets(st.integers(1, 60), min_size=1, max_size=12)))
    retention = Retention(
        data.draw(st.integers(1, 4)), data.draw(st.booleans()), data.draw(st.sampled_from([0, 5, 20]))
    )
    with tempfile.TemporaryDirectory() as name:
        folder, measured = Path(name), {}
        for step in steps:
            path = folder / f"step-{step:08d}"
            path.mkdir()
            value = data.draw(st.none() | st.floats(-50, 50))
            state = {"step": step} | ({} if value is None else {"valid_si_sdr": value})
            (path / "state.json").write_text(json.dumps(state) if data.draw(st.integers(0, 9)) else "{")
            if (path / "state.json").read_text() != "{" and value is not None:
                measured[step] = value
        deleted = {checkpoint.step_of(path) for path in checkpoint.deletable(folder, retention)}
        stays = set(steps) - deleted
        assert set(steps[-retention.newest :]) <= stays
        rounds = {step for step in steps if retention.every and step % retention.every == 0}
        best = {step for step, value in measured.items() if retention.best and value == max(measured.values())}
        assert rounds <= stays
        assert bool(best & stays) == bool(best)
        assert stays <= set(steps[-retention.newest :]) | rounds | best


def test_saving_goes_on_beside_and_one_at_a_time(model, tmp_path, monkeypatch):
    may_write, writing = threading.Event(), []
    real = async_save.save

    def slow(folder, model, snapshot, *rest):
        writing.append(snapshot.state["step"])
        assert may_write.wait(120)
        return real(folder, model, snapshot, *rest)

    monkeypatch.setattr(async_save, "save", slow)
    saver = Saver(tmp_path, model, Retention(5))
    saver.begin(snapshot(model, 1))
    assert saver.saved == 0
    threading.Timer(0.2, may_write.set).start()
    saver.finish()
    assert saver.saved == 1
    saver.begin(snapshot(model, 2))
    saver.finish()
    assert writing == [1, 2]
    assert [path.name for path in checkpoint.all_checkpoints(tmp_path)] == ["step-00000002", "step-00000001"]


def test_a_snapshot_is_a_copy_in_memory_that_is_kept():
    copies = HostCopies()
    value = torch.arange(3.0)
    first = copies.keep("a", value)
    value.add_(7)  # training continues
    assert first.tolist() == [0, 1, 2]
    assert copies.keep("a", value).data_ptr() == first.data_ptr()
    assert first.tolist() == [7, 8, 9]
    assert copies.keep("a", torch.zeros(2)).tolist() == [0, 0], "another shape"
    assert copies.keep("b", value).data_ptr() != first.data_ptr()


def test_a_save_that_fails_beside_is_told_before_the_next(model, tmp_path):
    (tmp_path / "file").write_text("")
    saver = Saver(tmp_path / "file" / "checkpoints", model, Retention())
    saver.begin(snapshot(model, 1))
    with pytest.raises(TrainError, match="cannot be saved"):
        saver.finish()
    saver.finish()


def with_state(model, state: dict) -> Snapshot:
    return dataclasses.replace(snapshot(model, state["step"]), state=state)


def test_values_of_a_point_in_a_received_checkpoint_must_be_numbers(model, tmp_path):
    state = {"step": 3, "epoch": 0, "consumed": 0, "unlogged": {"loss/total": 1.5}}
    path = checkpoint.save(tmp_path, model, with_state(model, state), Retention())
    assert checkpoint.load(path).state["unlogged"] == {"loss/total": 1.5}
    (path / "state.json").write_text(json.dumps({**state, "updates": 3, "valid": {"mel": "1"}}))
    with pytest.raises(TrainError, match="held-out values that are no numbers"):
        checkpoint.load(path)
    for wrong in ([1], {"loss/total": "1"}, 5):
        (path / "state.json").write_text(json.dumps({**state, "updates": 3, "unlogged": wrong}))
        with pytest.raises(TrainError, match="values of a point that are no numbers"):
            checkpoint.load(path)


def test_a_checkpoint_with_what_was_measured_later_takes_the_place_of_the_one_without(model, tmp_path):
    state = {"step": 3, "epoch": 0, "consumed": 0}
    first = checkpoint.save(tmp_path, model, with_state(model, {**state, "unlogged": {}}), Retention())
    second = checkpoint.save(tmp_path, model, with_state(model, {**state, "valid_si_sdr": 2.0}), Retention())
    assert first == second
    assert not checkpoint.damage(second)
    assert "unlogged" not in checkpoint.load(second).state
    assert checkpoint.best_checkpoint(tmp_path) == second
