"""Chunks of any length: built, verified, and read by ourselves and by webdataset."""

import io

import numpy as np
import pytest
import soundfile
import webdataset
from small_builds import add_recordings, build_here

from shards import Manifest, Split
from shards.__main__ import main
from shards.building import report
from shards.building.build import build
from shards.chunk import parse_name
from shards.presets import fitting_presets
from shards.verify import verify


@pytest.mark.parametrize(("seconds", "samples"), [(0.00005, 1), (0.0731, 1612), (0.3, 6615), (3, 66150)])
def test_any_length_is_built_verified_and_read(monkeypatch, tmp_path, capsys, seconds, samples):
    build_here(monkeypatch)
    add_recordings(tmp_path / "audio", range(3), 0.002 if seconds < 0.001 else 1.3 * seconds)
    build(tmp_path / "audio", tmp_path / "set", seconds=seconds, valid=0, copies="ignore")
    verify(tmp_path / "set")
    assert "every byte as built" in capsys.readouterr().out
    split = Split.open(tmp_path / "set", "train")
    assert (split.samples, split.manifest.hop) == (samples, max(1, samples // 2))
    ours = split.read(np.arange(len(split))).numpy()
    urls = [str(tmp_path / "set" / shard.file) for shard in split.manifest.splits["train"]]
    found = {}
    for sample in webdataset.WebDataset(urls, shardshuffle=False):
        audio, rate = soundfile.read(io.BytesIO(sample["wav"]), dtype="int16")
        assert (len(audio), rate) == (samples, 22050)
        found[parse_name(sample["__key__"] + ".wav")] = audio.tobytes()
    sources, starts = split.keys()
    keys = zip(sources.tolist(), starts.tolist(), strict=True)
    assert found == {key: row.tobytes() for key, row in zip(keys, ours, strict=True)}


def test_seconds_are_those_of_the_rate_and_cannot_contradict_samples(monkeypatch, tmp_path, capsys):
    build_here(monkeypatch)
    add_recordings(tmp_path / "audio", range(2), 0.5)
    words = ["build", str(tmp_path / "audio"), str(tmp_path / "set"), "--seconds"]
    assert main([*words, "0.25", "--rate", "8000", "--valid", "0"]) == 0
    assert Manifest.load(tmp_path / "set").samples == 2000
    capsys.readouterr()
    for more, told in (
        (["0.25", "--samples", "2000"], "--samples and --seconds are both given: leave one of them out"),
        (["-1"], "the length of a chunk is above 0 and finite"),
        (["1e9"], "--samples must be less than 2**30"),
    ):
        assert main([*words[:2], str(tmp_path / "other"), "--seconds", *more]) == 1
        assert told in capsys.readouterr().err
        assert not (tmp_path / "other").exists()


@pytest.mark.parametrize(("samples", "crop"), [(66_150, 0), (22_600, 22_540), (2_000, 1_960), (100, 0)])
def test_the_report_names_windows_that_fit(samples, crop):
    told = report.presets_that_fit(samples, 22050)
    assert told.startswith("presets that fit" if samples == 66_150 else "warning: no preset fits")
    assert ("--data.crop" in told) == bool(crop)
    if crop:
        names = ", ".join(name for name in fitting_presets(crop, 22050) if "/" not in name)
        assert f"train with --data.crop {crop} for windows that fit {names}" in told
