"""The reader in docs/data.md reads what training reads."""

import re

import numpy as np
import torch
from documents import ROOT, blocks

from shards import Split
from shards.building.build import build
from shards.practice.tunes import practice

TEXT = (ROOT / "docs" / "data.md").read_text()


def test_the_reader_in_the_document(tmp_path, monkeypatch):
    practice(tmp_path / "audio", minutes=0.2)
    build(tmp_path / "audio", tmp_path / "data", samples=2205, hop=1000, valid=0.2, chunks_per_shard=50, workers=1)
    monkeypatch.chdir(tmp_path)
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
