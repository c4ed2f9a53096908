"""The command that makes a data set of latents, on tiny models of every family."""

import json
import shutil
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

import audiovae
from audiovae.priors.latents import STEP, LatentsConfig
from audiovae.recordings.sequences import Frames, sequence_of
from shards import Manifest, Split
from shards.building.build import build
from shards.chunk import parse_name
from shards.files import sealed
from shards.files.lease import Lease
from shards.inspect import inspect
from shards.verify import verify
from tests import preloaded
from tests.audiovae.tiny_models import awake, change_config, make
from tests.shards.range_server import RangeServer
from tests.train.conftest import RATE, SAMPLES, environment, flip_a_bit, train, tune
from train.__main__ import run as main_run
from train.evaluation.measuring.recordings import join_chunks

KINDS = ["vae with levels", "hvae", "vqvae with levels"]


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> Path:
    """A folder for each kind of model."""
    folder = tmp_path_factory.mktemp("models")
    for kind in KINDS:
        audiovae.save(awake(kind), folder / kind)
    return folder


@pytest.fixture(scope="module")
def whole(once, models, data_dir) -> Path:
    """A VAE's latents of the tunes, encoded by a process that nothing disturbed; read it only."""
    return once("latents", lambda at: train(words(models / KINDS[0], data_dir, at / "set"))) / "set"


def words(model: Path, data: Path | str, out: Path, seconds: float = 1) -> list[str]:
    return ["encode", str(model), str(data), str(out), "--seconds", str(seconds)]


def refusal(capsys, arguments: list[str]) -> str:
    """The line of a command that is refused."""
    capsys.readouterr()
    assert main_run(arguments) == 1
    (line,) = capsys.readouterr().err.splitlines()
    return line


def content(folder: Path) -> dict[str, bytes]:
    """Every file of a folder, by its path within it."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def check_windows(out: Path, data: Path, model: audiovae.Autoencoder) -> None:
    """Every window of every recording holds the model's own latents, and together they cover the recording."""
    manifest = Manifest.load(out)
    layout = LatentsConfig(**manifest.settings["latents"])
    assert manifest.samples == layout.numbers
    assert manifest.rate == round(layout.rows * RATE / layout.stride)
    for name in ("train", "valid"):
        split, audio_split = Split.open(out, name), Split.open(data, name)
        stored = split.read(np.arange(len(split))).view(len(split), layout.frames, layout.rows)
        windows = [parse_name(member) for member in split.names(range(len(split)))]
        assert {row for row, _ in windows} == set(audio_split.keys()[0].tolist())
        for row in {row for row, _ in windows}:
            audio = torch.from_numpy(join_chunks(audio_split, row))
            least = Frames(model).samples(layout.frames)
            sequence = sequence_of(model, torch.nn.functional.pad(audio, (0, max(0, least - len(audio)))))
            starts = sorted(start // layout.rows for own, start in windows if own == row)
            assert starts[0] == 0
            assert starts[-1] == sequence.shape[1] - layout.frames
            hop = manifest.hop // layout.rows
            assert all(0 < after - start <= hop for start, after in pairwise(starts))
            assert manifest.sources[row].chunks == len(starts)
            for window, (own, start) in zip(stored, windows, strict=True):
                if own != row:
                    continue
                first = start // layout.rows
                wanted = sequence[:, first : first + layout.frames].T
                if layout.kind == "codes":
                    assert torch.equal(window.long(), wanted)
                else:
                    assert (window * STEP - wanted).abs().max() <= STEP / 2 + 1e-5


@pytest.mark.parametrize("kind", KINDS)
def test_windows_hold_the_latents_of_the_model(kind, models, data_dir, tmp_path, capsys):
    out = tmp_path / "latents"
    assert main_run(words(models / kind, data_dir, out)) == 0
    assert "4 recordings, " in (said := capsys.readouterr().out)
    assert said.count("\n") == 1
    verify(out)
    check_windows(out, data_dir, audiovae.load(models / kind))
    capsys.readouterr()
    inspect(out)
    assert f"latents, not audio: {Manifest.load(out).settings['latents']['rows']} numbers" in capsys.readouterr().out
    manifest, audio = Manifest.load(out), Manifest.load(data_dir)
    assert [source.path for source in manifest.sources] == [source.path for source in audio.sources]
    assert manifest.levels["train"].hours == audio.levels["train"].hours
    # Windows of several recordings are mixed.
    rows = Split.open(out, "train").keys()[0]
    assert (np.diff(rows) != 0).sum() > 2


def test_recordings_that_are_short_or_share_chunks(models, tmp_path):
    """A recording shorter than a window is followed by silence; several that share chunks count as one."""
    (tmp_path / "audio" / "train").mkdir(parents=True)
    (tmp_path / "audio" / "valid").mkdir()
    for name, length in (("train/a", 900), ("train/b", 700), ("valid/c", 3 * SAMPLES)):
        soundfile.write(tmp_path / "audio" / f"{name}.wav", tune(1.0, len(name))[:length], RATE)
    data, out = tmp_path / "set", tmp_path / "latents"
    build(
        tmp_path / "audio",
        data,
        samples=SAMPLES,
        hop=SAMPLES,
        split_by_folder=True,
        join_short=True,
        workers=1,
    )
    assert main_run(words(models / KINDS[0], data, out)) == 0
    check_windows(out, data, audiovae.load(models / KINDS[0]))
    manifest = Manifest.load(out)
    (joined,) = (source for source in manifest.sources if source.members)
    row = manifest.sources.index(joined)
    assert sorted(manifest.recordings_at(row, 0)) == ["train/a.wav", "train/b.wav"]
    assert all(shard.chunks == 1 for shards in manifest.splits.values() for shard in shards)


def test_two_processes_write_the_same_bytes(whole, models, data_dir, tmp_path):
    train(words(models / KINDS[0], data_dir, tmp_path / "set"), processes=2)
    assert content(tmp_path / "set") == content(whole)


def test_killed_anywhere_and_run_again(whole, models, data_dir, tmp_path, capsys):
    """The same bytes as of a process that nothing disturbed, though a file of the first attempt is damaged."""
    out = tmp_path / "set"

    def killed(place: str) -> str:
        process = preloaded.start(
            "tests.train.killed_encoding",
            words(models / KINDS[0], data_dir, out),
            environment(AUDIO_TRAIN_KILL_AT=place, OMP_NUM_THREADS="1"),
        )
        said = process.communicate(timeout=1000)[1]
        assert process.returncode == -9, said
        return said

    killed("second sequence")
    assert not (out / "dataset.json").exists()
    done = sorted((out / ".encode").glob("*.latents"))
    assert len(done) == 2
    flip_a_bit(done[0])
    assert "1 of 4 recordings were encoded before" in killed("shards")
    assert "4 of 4 recordings were encoded before" in killed("first move")
    assert len(list(out.glob("*.tar"))) == 1
    assert not (out / "dataset.json").exists()
    killed("manifest")
    assert (out / ".encode").exists()
    capsys.readouterr()
    assert main_run(words(models / KINDS[0], data_dir, out)) == 0
    assert "finished already" in capsys.readouterr().out
    assert content(out) == content(whole)


def test_a_url_gives_the_same_bytes(whole, models, data_dir, tmp_path):
    with RangeServer(data_dir) as server:
        assert main_run(words(models / KINDS[0], server.url, tmp_path / "set")) == 0
    assert content(tmp_path / "set") == content(whole)


def test_a_file_of_another_origin_is_not_removed(models, data_dir, tmp_path, capsys):
    """In an unfinished folder, an archive that no encoding writes is the user's."""
    out = tmp_path / "set"
    (out / ".encode").mkdir(parents=True)
    identity = {"model": audiovae.fingerprint(audiovae.load(models / KINDS[0]))}
    identity["data"] = Manifest.load(data_dir).fingerprint
    (out / ".encode" / "encoding.json").write_text(json.dumps(sealed(identity)))
    mine = [out / "photos.tar", out / "train-00000-1.tar", out / "test-00000-000.tar"]
    for file in mine:
        file.write_bytes(b"mine")
        assert f"not empty ({file.name})" in refusal(capsys, words(models / KINDS[0], data_dir, out))
        file.unlink()
    (out / "train-00000-000.tar").write_bytes(b"of an attempt before")
    assert main_run(words(models / KINDS[0], data_dir, out)) == 0
    assert Manifest.load(out).check_shards(out, "train") is None


def test_other_windows_use_the_sequences_that_are_there(models, data_dir, tmp_path, capsys, monkeypatch):
    """An interrupted encoding may go on in other windows: what it has moved before is removed."""
    out, at_once = tmp_path / "set", tmp_path / "at once"

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Manifest, "save", interrupt)
        with pytest.raises(KeyboardInterrupt):
            main_run(words(models / KINDS[2], data_dir, out))
    (out / "train-00000-001.tar").write_bytes(b"of narrower windows")
    assert main_run(words(models / KINDS[2], data_dir, out, 2)) == 0
    assert "4 of 4 recordings were encoded before" in capsys.readouterr().err
    assert main_run(words(models / KINDS[2], data_dir, at_once, 2)) == 0
    assert content(out) == content(at_once)


def test_a_finished_folder_is_not_for_others(whole, models, data_dir, tmp_path, capsys):
    arguments = words(models / KINDS[0], data_dir, whole)
    assert main_run(arguments) == 0
    assert "finished already, by the same model from the same data" in capsys.readouterr().out
    before = content(whole)
    assert "latents of another model" in refusal(capsys, words(models / "hvae", data_dir, whole))
    assert "in windows of another length" in refusal(capsys, words(models / KINDS[0], data_dir, whole, 2))
    assert "holds latents already" in refusal(capsys, words(models / KINDS[0], whole, tmp_path / "x"))
    assert "holds another data set" in refusal(capsys, words(models / KINDS[0], data_dir, data_dir))
    assert content(whole) == before
    other = tmp_path / "other"
    soundfile.write(tmp_path / "tune.wav", tune(1.0, 9), RATE)
    (tmp_path / "audio").mkdir()
    (tmp_path / "tune.wav").rename(tmp_path / "audio" / "tune.wav")
    build(tmp_path / "audio", other, samples=SAMPLES, hop=SAMPLES, valid=0, level="rms", workers=1)
    assert "at the level 'rms'" in refusal(capsys, words(models / KINDS[0], other, tmp_path / "x"))
    loud = tmp_path / "loud"
    shutil.copytree(models / KINDS[0], loud)
    change_config(loud, level="rms")
    assert "of other data" in refusal(capsys, words(loud, other, _sealed_as(whole, loud, tmp_path / "copy")))
    assert not (tmp_path / "x").exists()


def _sealed_as(finished: Path, model: Path, copy: Path) -> Path:
    """A copy of a finished data folder that claims to be by another model."""
    shutil.copytree(finished, copy)
    about = json.loads((copy / "dataset.json").read_text())
    about["settings"]["latents"]["model"] = audiovae.fingerprint(audiovae.load(model))
    (copy / "dataset.json").write_text(json.dumps(about))
    return copy


def test_refusals(models, data_dir, tmp_path, capsys):
    out = tmp_path / "out"
    assert "holds no model" in refusal(capsys, words(tmp_path, data_dir, out))
    audiovae.save(make("vqvae"), tmp_path / "asleep")
    assert "no codes yet; train it further" in refusal(capsys, words(tmp_path / "asleep", data_dir, out))
    slow = tmp_path / "slow"
    shutil.copytree(models / "hvae", slow)
    change_config(slow, rate=16000)
    assert "build the data with --rate 16000" in refusal(capsys, words(slow, data_dir, out))
    assert "choose shorter windows" in refusal(capsys, words(models / "hvae", data_dir, out, 8e4))
    assert "choose windows of at most a day" in refusal(capsys, words(models / "hvae", data_dir, out, float("inf")))
    assert not out.exists()
    out.mkdir()
    (out / "thesis.txt").write_text("mine")
    assert "not empty (thesis.txt)" in refusal(capsys, words(models / "hvae", data_dir, out))
    assert "not a folder" in refusal(capsys, words(models / "hvae", data_dir, out / "thesis.txt"))
    assert [path.name for path in out.iterdir()] == ["thesis.txt"]
    assert main_run(["encode", str(models / "hvae"), str(data_dir), str(out), "--seconds", "0"]) == 1


def test_latents_out_of_range_name_the_recording_and_an_unfinished_encoding_is_kept(models, data_dir, tmp_path, capsys):
    model = awake("vae")
    with torch.no_grad():
        model.encoder.mean.bias.add_(200)
    audiovae.save(model, tmp_path / "wide")
    out = tmp_path / "out"
    line = refusal(capsys, words(tmp_path / "wide", data_dir, out))
    assert line.startswith("error: tune-")
    assert "not in [-127.996, 127.996], the range of a data set" in line
    kept = content(out / ".encode")
    assert f"{out / '.encode'}: an unfinished encoding of another model" in refusal(
        capsys, words(models / "hvae", data_dir, out)
    )
    assert content(out / ".encode") == kept
    lease = Lease.take(out / ".encode" / "encode.lease")
    assert lease is not None
    with lease:
        assert "another process encodes into this folder" in refusal(capsys, words(tmp_path / "wide", data_dir, out))


def test_a_damaged_chunk_of_the_data_ends_the_encoding(models, data_dir, tmp_path, capsys):
    shutil.copytree(data_dir, tmp_path / "set")
    manifest = Manifest.load(data_dir)
    shard = tmp_path / "set" / manifest.splits["train"][0].file
    with open(shard, "r+b") as file:
        file.seek(3 * manifest.chunk_format.stride + 2000)
        file.write(b"damage")
    line = refusal(capsys, words(models / "hvae", tmp_path / "set", tmp_path / "out"))
    assert "member 3" in line
    assert "is damaged" in line
    assert not (tmp_path / "out" / "dataset.json").exists()
