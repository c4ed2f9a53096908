"""Stereo data read: what was built, on any number of ranks, from any source, with damage in either channel."""

import json
import shutil
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given
from hypothesis import strategies as st

from shards import BatchStream, DataError, Manifest, Split, by_channel
from shards.building.build import build
from shards.chunk import HEADERS
from shards.reading.order import EpochOrder
from shards.reading.windows import cut, windows_of
from shards.verify import verify

RATE, SAMPLES = 22050, 2205
SMALL = partial(EpochOrder, block=4, lanes=4, window=2)
RECORD = 12_288  # bytes
READERS = {"map": None, "arena": 100 * 4 * RECORD, "rows": 0}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Two stereo data sets and a mono one of the recordings of the first."""
    root = tmp_path_factory.mktemp("stereo")
    for name, seeds in (("music", range(5)), ("speech", range(10, 13))):
        (root / f"{name}-audio").mkdir()
        for seed in seeds:
            audio = np.random.default_rng(seed).integers(-9000, 9000, (40_000 + 500 * seed, 2)).astype(np.int16)
            soundfile.write(root / f"{name}-audio" / f"{seed}.wav", audio, RATE)
    settings = {"samples": SAMPLES, "hop": 1000, "level": "none", "chunks_per_shard": 60, "workers": 1}
    for name in ("music", "speech"):
        build(root / f"{name}-audio", root / name, channels=2, valid=0.2, **settings)
    build(root / "speech-audio", root / "mono", valid=0, **settings)
    return root


@pytest.fixture(scope="module")
def split(folders):
    return Split.open(folders / "music", "train")


def original(folders, split, chunk: int) -> np.ndarray:
    """The samples of a chunk in its file, int16 [samples, 2]."""
    sources, starts = split.keys()
    source, start = int(sources[chunk]), int(starts[chunk])
    path = folders / "music-audio" / split.manifest.sources[source].path
    return soundfile.read(path, dtype="int16", start=start, frames=SAMPLES)[0]


def test_what_is_read_is_what_was_built(folders, split):
    assert (split.channels, split.samples) == (2, SAMPLES)
    chunks = np.array([0, len(split) - 1, 7, 7])
    audio = split.read(chunks)
    assert audio.shape == (4, 2 * SAMPLES)
    sides = by_channel(audio, 2)
    assert sides.data_ptr() == audio.data_ptr()
    for chunk, row in zip(chunks.tolist(), sides, strict=True):
        assert np.array_equal(row.numpy().T, original(folders, split, chunk))
    assert split.read(np.empty(0, np.int64)).shape == (0, 2 * SAMPLES)


@given(st.integers(0, 5), st.integers(1, 9), st.sampled_from([1, 2]))
def test_channels_are_a_view_of_interleaved_samples(rows, samples, channels):
    values = torch.arange(rows * samples * channels).view(rows, samples, channels)
    assert torch.equal(by_channel(values.flatten(1), channels), values.transpose(1, 2))


@given(st.integers(1, SAMPLES - 1), st.data())
def test_windows_hold_both_channels_of_the_same_samples(split, samples, data):
    windows = windows_of(split, samples)
    chosen = np.array(data.draw(st.lists(st.integers(0, len(windows) - 1), min_size=1, max_size=5)))
    found = by_channel(windows.read(chosen), 2)
    whole = by_channel(split.read(chosen // windows.per_record), 2)
    starts = windows.keys()[1][chosen] - split.keys()[1][chosen // windows.per_record]
    for row, record, first in zip(found, whole, starts.tolist(), strict=True):
        assert torch.equal(row, record[:, first : first + samples])


@given(st.integers(1, 20), st.lists(st.tuples(st.integers(0, 3), st.integers(0, 20)), max_size=6))
def test_any_window_is_cut_at_whole_samples(samples, places):
    values = torch.arange(4 * 40 * 2, dtype=torch.int16).view(4, 80)
    rows, first = np.array([place[0] for place in places], int), np.array([place[1] for place in places], int)
    found = cut(values, rows, first, samples, channels=2)
    expected = [values[row].view(40, 2)[begin : begin + samples].flatten() for row, begin in places]
    assert torch.equal(found, torch.stack(expected) if places else values.new_empty(0, 2 * samples))


def steps(split, world: int, kind: str, count: int = 6) -> tuple[np.ndarray, torch.Tensor]:
    """Chunks and audio of some steps, in the order of the global batch."""
    chunks, audio = np.zeros((count, 12), int), torch.zeros(count, 12, 2 * SAMPLES, dtype=torch.int16)
    for rank in range(world):
        with BatchStream(split, 12, 3, rank, world, memory=READERS[kind], order=SMALL) as stream:
            for step, batch in zip(range(count), stream, strict=False):
                assert (batch.samples, batch.channels) == (SAMPLES, 2)
                chunks[step, batch.rows.numpy()] = batch.chunks
                audio[step, batch.rows] = batch.audio
                assert torch.equal(batch.on(torch.device("cpu"), slice(1, 3)), batch.audio[1:3])
    return chunks, audio


@pytest.mark.parametrize("kind", READERS)
@pytest.mark.parametrize("world", [1, 2, 3, 4])
def test_batches_are_the_same_on_any_number_of_ranks(split, world, kind):
    chunks, audio = steps(split, world, kind)
    assert np.array_equal(chunks, steps(split, 1, "map")[0])
    assert torch.equal(audio.flatten(0, 1), split.read(chunks.ravel()))


def test_other_sources_give_the_same(folders, split, tmp_path):
    chunks = np.arange(len(split))
    expected = split.read(chunks)
    scratch = Split.open(folders / "music", "train", scratch=tmp_path / "scratch", scratch_bytes=1 << 30)
    remote = Split.open(f"file://{folders / 'music'}", "train")
    for other in (scratch, remote):
        assert torch.equal(other.read(chunks), expected)
        other.close()
    verify(f"file://{folders / 'music'}")


@pytest.mark.parametrize("side", [0, 1])
@pytest.mark.parametrize("memory", [None, 0])
def test_damage_in_either_channel_is_found_and_replaced(folders, tmp_path, side, memory):
    shutil.copytree(folders / "music", tmp_path / "set")
    whole = Split.open(tmp_path / "set", "train")
    shard = whole.manifest.splits["train"][0]
    bad, place = 3, HEADERS + 4 * 1500 + 2 * side
    with open(tmp_path / "set" / shard.file, "r+b") as file:
        file.seek(bad * whole.manifest.chunk_format.stride + place)
        byte = file.read(1)[0]
        file.seek(-1, 1)
        file.write(bytes([byte ^ 4]))
    split = Split.open(tmp_path / "set", "train")
    with pytest.raises(DataError, match=r"member 3 .* is damaged"):
        split.read(np.array([bad]))
    with pytest.raises(DataError, match=r"1 of . shards in .* are damaged"):
        verify(tmp_path / "set")
    with BatchStream(split, len(split), 0, memory=memory) as stream:
        batch = next(stream)
        (damage,) = stream.damage()
        assert (damage.chunk, damage.member) == (bad, bad)
        assert bad not in batch.chunks
        row = int(np.flatnonzero(batch.chunks == damage.replacement)[0])
        assert torch.equal(batch.audio[row], split.read(np.array([damage.replacement]))[0])


def test_several_stereo_sets_are_read_together_with_gains(folders):
    first, second = (Split.open(folders / name, "train") for name in ("music", "speech"))
    both = Split.open(f"{folders / 'music'} + {folders / 'speech'}:-6dB", "train")
    chunks = np.array([0, len(first)])
    found = both.read(chunks)
    assert torch.equal(found[:1], first.read(np.array([0])))
    expected = second.read(np.array([0])).numpy() * np.float32(10 ** (-6 / 20))
    assert np.array_equal(found[1:].numpy(), np.rint(expected))


def test_stereo_and_mono_are_not_mixed(folders):
    with pytest.raises(DataError) as raised:
        Split.open(f"{folders / 'music'} + {folders / 'mono'}", "train")
    message = str(raised.value)
    assert message.startswith("the data sets differ in their channels: 2 in music, 1 in mono")
    assert message.endswith("build one of them again with the --channels of the other")


def test_fingerprints_know_the_channels(split):
    manifest = split.manifest
    assert replace(manifest, channels=1).fingerprint != manifest.fingerprint


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"channels": 1}, "channels are 1, which does not fit format_version 3"),
        ({"channels": 0}, "must be an integer of at least 1"),
        ({"channels": 3}, "must be an integer of at most 2"),
        ({"channels": "2"}, "channels of the file must be an integer"),
        ({"format_version": 2}, "channels are 2, which does not fit format_version 2"),
        ({"format_version": 4}, "format_version is 4, this version reads 2 and 3"),
        ({"channels": None, "format_version": 2}, "channels of the file must be an integer"),
        ({"samples": 1 << 26}, "samples of the file must be an integer of at most"),
        ({"samples": 2 * SAMPLES}, "cannot hold"),
    ],
)
def test_hostile_channels_are_refused(folders, tmp_path, changes, message):
    about = json.loads((folders / "music" / "dataset.json").read_text())
    assert (about["format_version"], about["channels"]) == (3, 2)
    (tmp_path / "dataset.json").write_text(json.dumps(about | changes))
    with pytest.raises(DataError, match=message):
        Manifest.load(tmp_path)
    del about["channels"]
    (tmp_path / "dataset.json").write_text(json.dumps(about))
    with pytest.raises(DataError, match="channels are 1, which does not fit format_version 3"):
        Manifest.load(tmp_path)
