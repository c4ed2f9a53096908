"""The reader in docs/data.md reads what training reads."""

import re

import numpy as np
import pytest
import torch
import webdataset
from documents import ROOT, blocks

from shards import Manifest, Split
from shards.building.build import build
from shards.practice.tunes import practice

TEXT = (ROOT / "docs" / "data.md").read_text()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with the data set `data`, with five shards for training and one of held-out chunks."""
    folder = tmp_path_factory.mktemp("reader")
    practice(folder / "audio", minutes=0.2)
    build(folder / "audio", folder / "data", samples=2205, hop=1000, valid=0.2, chunks_per_shard=50, workers=1)
    return folder


def test_the_reader_in_the_document(folder, monkeypatch):
    monkeypatch.chdir(folder)
    found: dict = {}
    exec(next(block for block in blocks(TEXT, "python") if "xxhash" in block), found)
    split = Split.open("data", "train")
    assert len(found["manifest"]["splits"]["train"]) > 1
    assert len(found["chunks"]) == len(split) > 0
    audio = split.read(torch.arange(len(split)))
    assert np.array_equal(audio.numpy(), np.stack([chunk for _, _, chunk in found["chunks"]]))
    split.close()
    manifest = found["manifest"]
    rows = re.findall(r"^\| (`[^|]+\|[^|]*)\|", TEXT, re.MULTILINE)
    names = {name for line in rows for name in re.findall(r"`(\w+)`", line)}
    shard = manifest["splits"]["train"][0]
    assert shard["ends"]
    assert {*manifest, *manifest["sources"][0], *shard} <= names, "keys that the document does not explain"


def test_the_reader_in_the_document_reads_stereo(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    settings = {"samples": 2205, "hop": 2205, "chunks_per_shard": 50, "workers": 1, "channels": 2}
    build(folder / "audio", tmp_path / "data", **settings)
    found: dict = {}
    exec(next(block for block in blocks(TEXT, "python") if "xxhash" in block), found)
    split = Split.open("data", "train")
    assert found["channels"] == split.channels == 2
    audio = split.read(np.arange(len(split)))
    assert np.array_equal(audio.numpy(), np.stack([chunk for _, _, chunk in found["chunks"]]))
    split.close()
    assert "`channels`" in TEXT


@pytest.mark.filterwarnings("ignore:This DataLoader will create 4 worker processes")
def test_webdataset_needs_a_shard_for_each_worker(folder):
    manifest = Manifest.load(folder / "data")

    def loaded(split: str) -> int:
        files = [str(folder / "data" / shard.file) for shard in manifest.splits[split]]
        pipeline = webdataset.WebDataset(files, shardshuffle=False).to_tuple("__key__", "wav")
        return len({key for key, _ in torch.utils.data.DataLoader(pipeline, batch_size=None, num_workers=4)})

    message = re.search(r'it ends with "(.+?)"', TEXT)[1]
    assert len(manifest.splits["valid"]) == 1
    with pytest.raises(ValueError, match=message):
        loaded("valid")
    assert len(manifest.splits["train"]) >= 4
    assert loaded("train") == manifest.chunks("train")
    assert "smaller `--chunks_per_shard`" in TEXT
