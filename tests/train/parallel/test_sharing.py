"""What one process reads for all, on three processes over gloo."""

import json
import shutil
import socket

import pytest

from shards import Manifest
from tests import preloaded
from tests.train.conftest import PATIENCE_S, environment

WORLD = 3


@pytest.fixture(scope="module")
def found(data_dir, tmp_path_factory) -> list[dict]:
    folder = tmp_path_factory.mktemp("sharing")
    for name in ("data", "data-0", "data-1", "data-2"):
        (folder / name).mkdir()
        shutil.copy(data_dir / "dataset.json", folder / name)
    # Another edition of the same data, of equal size, on the node of process 2.
    text = (folder / "data-2" / "dataset.json").read_text()
    mark = Manifest.load(data_dir).fingerprint
    (folder / "data-2" / "dataset.json").write_text(text.replace(mark, mark[::-1]))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        place = {"WORLD_SIZE": WORLD, "LOCAL_WORLD_SIZE": WORLD, "MASTER_ADDR": "127.0.0.1"}
        place["MASTER_PORT"] = free.getsockname()[1]
    started = [
        preloaded.start(
            "tests.train.sharing_ranks",
            [str(folder)],
            environment(**{key: str(value) for key, value in (place | {"RANK": rank, "LOCAL_RANK": rank}).items()}),
        )
        for rank in range(WORLD)
    ]
    said = [process.communicate(timeout=PATIENCE_S) for process in started]
    assert [process.wait(PATIENCE_S) for process in started] == [0] * WORLD, said
    return [json.loads((folder / f"found-{rank}.json").read_text()) for rank in range(WORLD)]


def test_every_process_gets_the_tensors_of_rank_0_bit_for_bit(found):
    names = [["w", "count", "none"], ["w"], ["exp_avg.w", "flag"]]
    for one in found:
        assert one["plain"] == [5, {"step": 3}, names]
        assert one["contains"]
        assert one["equal"] == [True] * 6


def test_every_process_gets_the_manifest_of_rank_0(found, data_dir):
    assert {one["manifest"] for one in found} == {Manifest.load(data_dir).fingerprint}


def test_an_error_of_one_process_is_the_error_of_all(found):
    assert all("missing has no dataset.json" in one["miss"] for one in found)
    assert all("process 2 sees another dataset.json than process 0" in one["data"] for one in found)


def test_processes_share_the_shards_to_verify(data_dir, tmp_path):
    manifest = Manifest.load(data_dir)
    rows = manifest.splits["train"]
    shutil.copytree(data_dir, tmp_path / "copy")
    (tmp_path / "copy" / rows[-1].file).unlink()
    world = len(rows) + 1
    for rank in range(world):
        if rank == len(rows) - 1:
            with pytest.raises(Exception, match=rows[-1].file):
                manifest.check_shards(tmp_path / "copy", "train", rank, world)
        else:
            manifest.check_shards(tmp_path / "copy", "train", rank, world)
