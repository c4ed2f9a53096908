import shutil

import pytest
from range_server import RangeServer

from shards import DataError, Manifest
from shards.__main__ import main
from shards.inspect import summary
from shards.verify import verify


@pytest.fixture
def copy(data_dir, tmp_path):
    shutil.copytree(data_dir, tmp_path / "set")
    return tmp_path / "set"


def test_a_sound_set(copy, capsys):
    verify(copy)
    assert "every byte as built" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("offset", "what"),
    [
        (0, "name"),
        (8, "name"),
        (30, "tar header"),
        (150, "tar header"),
        (300, "tar header"),
        (512, "WAV header"),
        (555, "WAV header"),
        (556, "samples"),
        (3000, "samples"),
        (556 + 2 * 2205, "padding"),
        (556 + 2 * 2205 + 8, "samples"),
        (556 + 2 * 2205 + 16, "padding"),
        (-1, "padding"),
    ],
)
def test_any_flipped_byte_is_found(copy, capsys, offset, what):
    manifest = Manifest.load(copy)
    shard, stride = manifest.splits["train"][-1], manifest.chunk_format.stride
    data = bytearray((copy / shard.file).read_bytes())
    data[3 * stride + offset % stride] ^= 0x40
    (copy / shard.file).write_bytes(data)
    with pytest.raises(DataError, match="1 of"):
        verify(copy)
    told = capsys.readouterr().out
    assert told.startswith(f"{shard.file}: ")
    assert what in told
    assert f"member 3 at byte {3 * stride}" in told


def test_every_bad_shard_is_listed(copy, capsys):
    shards = [shard for rows in Manifest.load(copy).splits.values() for shard in rows]
    short, ending, missing = (copy / shard.file for shard in shards[:3])
    short.write_bytes(short.read_bytes()[:5000])
    ending.write_bytes(ending.read_bytes()[:-1] + b"x")
    missing.unlink()
    with pytest.raises(DataError, match=f"3 of {len(shards)} shards"):
        verify(copy)
    told = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in told] == [short.name, ending.name, missing.name]
    assert "5000 bytes instead of" in told[0]
    assert "the end" in told[1]


def test_swapped_members_are_found(copy):
    manifest = Manifest.load(copy)
    shard, stride = manifest.splits["valid"][0], manifest.chunk_format.stride
    data = (copy / shard.file).read_bytes()
    (copy / shard.file).write_bytes(data[stride : 2 * stride] + data[:stride] + data[2 * stride :])
    with pytest.raises(DataError):
        verify(copy)


def test_the_summary_counts_every_recording(data_dir):
    content = summary(Manifest.load(data_dir))
    assert sum(content["durations_s"]["recordings"]) == 8
    assert len(content["durations_s"]["edges"]) == len(content["durations_s"]["recordings"]) + 1
    assert sum(split["recordings"] for split in content["splits"].values()) == 8
    assert -30 < content["splits"]["train"]["rms_dbfs"] < content["splits"]["train"]["peak_dbfs"] < 0


# Behind a URL.


def test_a_sound_set_behind_a_url(data_dir, capsys):
    with RangeServer(data_dir) as server:
        address = server.url.split("//")[1]
        assert main(["verify", f"http://reader:secret@{address}/?X-Signature=abc123signature"]) == 0
    said = capsys.readouterr().out
    assert f"http://{address}/: " in said
    assert said.endswith("every byte as built\n")
    assert "secret" not in said
    assert "abc123" not in said
    assert all(request.query == "X-Signature=abc123signature" for request in server.requests)


def test_every_bad_shard_behind_a_url_is_listed(copy, capsys):
    shards = [shard for rows in Manifest.load(copy).splits.values() for shard in rows]
    short, ending, missing, flipped = (copy / shard.file for shard in shards[:4])
    short.write_bytes(short.read_bytes()[:5000])
    ending.write_bytes(ending.read_bytes()[:-1] + b"x")
    missing.unlink()
    content = bytearray(flipped.read_bytes())
    content[1000] ^= 1
    flipped.write_bytes(content)
    verdicts = []
    with RangeServer(copy) as server:
        for place in (server.url, f"file://{copy}", copy):
            with pytest.raises(DataError, match=f"4 of {len(shards)} shards in {str(place).rstrip('/')} are damaged"):
                verify(place)
            verdicts.append(capsys.readouterr().out)
    assert verdicts[0] == verdicts[1]
    told = verdicts[0].splitlines()
    assert [line.split(":")[0] for line in told] == [short.name, ending.name, missing.name, flipped.name]
    for line, what in zip(told, ("5000 bytes instead of", "the end", "is missing", "samples"), strict=True):
        assert what in line
    assert told[2:] != verdicts[2].splitlines()[2:], "of a folder, what the system says"
    assert told[:2] == verdicts[2].splitlines()[:2]


def test_what_is_damaged_on_the_way_is_fetched_again_and_failures_are_retried(data_dir, capsys):
    kinds, seen = ["flip", 503, "drop", "cut", "short"], set()

    def once(request):
        key = request.path, request.begin
        if key in seen or not request.path.endswith(".tar") or request.end - request.begin <= 1024:
            return None
        seen.add(key)
        return kinds[len(seen) % len(kinds)]

    with RangeServer(data_dir, once) as server:
        verify(server.url)
    assert len(seen) > 3
    assert "every byte as built" in capsys.readouterr().out


def test_memory_is_bounded_by_pieces_of_a_shard(data_dir, monkeypatch):
    stride = Manifest.load(data_dir).chunk_format.stride
    monkeypatch.setattr("shards.verify.BATCH", 3 * stride + 1)
    verify(data_dir)
    with RangeServer(data_dir) as server:
        verify(server.url)
    assert max(request.end - request.begin for request in server.requests if request.begin is not None) == 3 * stride


def test_a_server_that_refuses_or_redirects_elsewhere_ends_it(data_dir):
    for fault, words in ((403, "HTTP 403 Forbidden"), ("to http://elsewhere.invalid", "another host")):
        with RangeServer(data_dir) as server:
            server.fault = lambda request, fault=fault: fault if request.path.endswith(".tar") else None
            with pytest.raises(DataError, match=words):
                verify(server.url)
        assert len(server.requests) == 2


def test_inspect_of_a_url_shows_what_inspect_of_the_folder_shows(data_dir, capsys):
    for words in ([], ["--json"]):
        assert main(["inspect", str(data_dir), *words]) == 0
        shown = capsys.readouterr().out
        with RangeServer(data_dir) as server:
            assert main(["inspect", server.url, *words]) == 0
        assert capsys.readouterr().out == shown
        assert [request.path for request in server.requests] == ["/dataset.json"]
    with RangeServer(data_dir) as server:
        assert main(["inspect", f"{server.url}/elsewhere"]) == 1
    assert "HTTP 404" in capsys.readouterr().err
