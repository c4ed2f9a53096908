"""Run by test_sharing.py on several processes: what rank 0 reads is what all processes get, errors included."""

import json
import sys
from pathlib import Path

import torch

from shards import DataError
from train.optim.snapshot import Snapshot
from train.parallel.engine import Engine
from train.parallel.sharing import shared_manifest, shared_snapshot

folder = Path(sys.argv[1])
engine = Engine()
found: dict[str, object] = {}

parts = [
    {"w": torch.arange(6.0).view(2, 3).t(), "count": torch.tensor(7), "none": torch.empty(0, 4)},
    {"w": torch.tensor([float("nan"), -0.0], dtype=torch.bfloat16)},
    {"exp_avg.w": torch.tensor([[1, -1]], dtype=torch.int64), "flag": torch.tensor([True, False])},
]
got = shared_snapshot(engine, Snapshot(*parts, 5, {"step": 3}) if engine.is_main else None)
found["plain"] = [got.updates, got.state, [[*part] for part in (got.weights, got.averages, got.moments)]]
found["contains"] = "w" in got.weights and "v" not in got.weights
equal = []
for part, own in zip((got.weights, got.averages, got.moments), parts, strict=True):
    for name, value in part.items():
        mine = own[name].contiguous()
        same = value.dtype == mine.dtype and value.shape == mine.shape
        equal.append(
            same and torch.equal(value.contiguous().view(-1).view(torch.uint8), mine.view(-1).view(torch.uint8))
        )
found["equal"] = equal

found["manifest"] = shared_manifest(engine, str(folder / "data")).fingerprint
for case in ("missing", f"data-{engine.rank}"):
    try:
        shared_manifest(engine, str(folder / case))
    except DataError as error:
        found[case[:4]] = str(error)

(folder / f"found-{engine.rank}.json").write_text(json.dumps(found))
engine.wait_for_all()
engine.close()
