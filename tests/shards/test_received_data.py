"""Names and values in a stranger's data folder: no command hands them to the terminal as they are."""

from dataclasses import replace

import pytest
from range_server import RangeServer

from shards import DataError, Manifest, Split
from shards.__main__ import main
from shards.chunk import ChunkFormat
from shards.manifest import FILE_NAME, Level, Shard, Source
from shards.reading.remote.failures import Place, cleaned
from shards.reading.remote.retry import Retries, RetryPolicy
from shards.text import printable
from tests.hostile_text import harmless

OWNED = "\x1b]0;owned\x07\x1b[31m[red]no[link=x]\u202e\n:smile:"
SHAPE = ChunkFormat(22050, 2205)
SHARD = Shard(f"{OWNED}.tar", 3, SHAPE.shard_bytes(3), "0" * 32)
SOURCE = Source(OWNED, "f", OWNED, 3, 0, 0, 1.0, 22050, 1, 0.0, 0.5, 0.1, False, OWNED)
SKIPPED = replace(SOURCE, path=f"x.{OWNED}", split=None, note=OWNED)


@pytest.fixture(autouse=True)
def wide(monkeypatch):
    monkeypatch.setenv("COLUMNS", "2000")


@pytest.fixture
def data(tmp_path):
    """A data folder whose manifest is as it should be, but for its names."""
    sources = [SOURCE, SKIPPED, replace(SKIPPED, note="not audio")]
    manifest = Manifest(22050, 2205, 1000, "peak", {}, {OWNED: [SHARD]}, {OWNED: Level.of([SOURCE])}, sources)
    manifest.save(tmp_path)
    return tmp_path


def test_inspect(data, capsys):
    assert main(["inspect", str(data)]) == 0
    said = harmless(capsys.readouterr().out)
    shown = printable(OWNED)
    assert f" {shown} " in said, "the split in the table"
    assert f"  {shown}: {shown}\n" in said, "a recording and its note"
    assert f"skipped 2 (1 {shown.split(':')[0]}, 1 not audio)" in said
    assert main(["inspect", str(data), "--json"]) == 0
    harmless(capsys.readouterr().out)


def test_verify(data, capsys):
    assert main(["verify", str(data)]) == 1
    said = capsys.readouterr()
    assert harmless(said.out) == f"{printable(SHARD.file)}: cannot be read (No such file or directory)\n"
    harmless(said.err)


def test_a_split_that_is_not_there(data):
    with pytest.raises(DataError) as caught:
        Split.open(data, "train")
    assert f"no split 'train', only {printable(OWNED)};" in harmless(str(caught.value))
    with RangeServer(data) as server, pytest.raises(DataError) as caught:
        Split.open(server.url, "train")
    assert f"no split 'train', only {printable(OWNED)};" in harmless(str(caught.value))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"chunks": 3', '"chunks": "3"'),
        ('"xxh3"', '"hash"'),
        ('"rms"', '"rmss"'),
        ('"split": "', '"split": "x'),
        ('"bytes": ', '"bytes": 1'),
    ],
)
def test_complaints_about_a_manifest(old, new, data, capsys):
    file = data / FILE_NAME
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new, 1))
    with pytest.raises(DataError) as caught:
        Manifest.load(data)
    assert "\n" not in harmless(str(caught.value))
    assert main(["inspect", str(data)]) == 1
    assert harmless(capsys.readouterr().err) == f"error: {caught.value}\n"


def test_what_is_logged_about_a_server(caplog):
    """The name of a shard comes from the manifest, the reason from the server."""

    def request(_: float) -> None:
        if not caplog.messages:
            raise ConnectionRefusedError(111, OWNED)

    Retries(Place("http://host"), RetryPolicy(first_pause_s=0.001)).call(SHARD.file, request)
    assert harmless(caplog.messages[0]).startswith(f"{printable(SHARD.file)}: ")


def test_what_a_server_says():
    assert harmless(cleaned(f"{OWNED} https://me:secret@host/x?key=y")).endswith("https://host/x")
