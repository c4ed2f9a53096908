import io
import tarfile
import wave

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from shards.chunk import END_OF_TAR, ChunkFormat, member_name, parse_name, read_names


def test_the_default_record_is_eleven_pages():
    shape = ChunkFormat()
    assert shape.stride == 11 * 4096


@given(st.integers(1, 10**6), st.sampled_from([1, 2]))
def test_every_record_is_whole_pages_and_its_parts_fill_it(samples, channels):
    shape = ChunkFormat(16000, samples, channels)
    assert shape.hashed == 556 + 2 * channels * samples
    assert shape.stride % 4096 == 0
    assert shape.stride - shape.hashed - 16 < 4096
    assert len(shape.trailer) == shape.stride - shape.hashed
    assert 0 <= shape.stride - 512 - shape.wav_bytes < 512  # the tar's own padding


def test_a_damaged_record_is_seen_wherever_the_damage_is():
    shape = ChunkFormat(8000, 300)
    audio = np.random.default_rng(0).integers(-9, 9, (3, 300)).astype(np.int16)
    whole = shape.records(audio, np.arange(3), np.arange(3))
    assert not shape.damaged(whole).any()
    for place in [*range(shape.hashed), *range(shape.hashed + 8, shape.hashed + 16)]:
        records = whole.copy()
        records[1, place] ^= 1 << place % 8
        assert shape.damaged(records).tolist() == [False, True, False], place


# JobExit in the tar's own padding, with none at all, and in a JUNK chunk.
@pytest.mark.parametrize(
    "shape",
    [
        *(ChunkFormat(), ChunkFormat(16000, 16000), ChunkFormat(8000, 1), ChunkFormat(48000, 777)),
        *(ChunkFormat(22050, 22050, 2), ChunkFormat(8000, 1, 2), ChunkFormat(48000, 777, 2)),
    ],
    ids=str,
)
@pytest.mark.parametrize("identity", ["", "0123456789abcdef01234567"])
def test_records_are_sound_members_of_a_tar(shape, identity):
    rng = np.random.default_rng(0)
    audio = rng.integers(-32768, 32768, (5, shape.samples * shape.channels)).astype(np.int16)
    source = np.array([0, 1, 7, 12345678, 99999999])
    start = np.array([0, 11025, 10**9, 123456789012, 10**12 - 1])
    ours = shape.records(audio, source, start, identity).tobytes() + END_OF_TAR
    assert len(ours) == shape.shard_bytes(5)
    expected = io.BytesIO()
    with tarfile.open(fileobj=expected, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for row in range(5):
            info = tarfile.TarInfo(member_name(source[row], start[row]))
            info.size, info.mode, info.uname, info.gname = shape.wav_bytes, 0o644, "shards", identity or "shards"
            tar.addfile(info, io.BytesIO(ours[row * shape.stride + 512 :]))
    assert expected.getvalue()[: len(ours)] == ours

    with tarfile.open(fileobj=io.BytesIO(ours)) as tar:
        for row, member in enumerate(tar):
            assert parse_name(member.name) == (source[row], start[row])
            decoded, rate = soundfile.read(io.BytesIO(tar.extractfile(member).read()), dtype="int16")
            assert rate == shape.rate
            np.testing.assert_array_equal(decoded, audio[row].reshape(decoded.shape))


@given(st.integers(1, 1500), st.integers(1, 4), st.integers(0, 2**32 - 1))
def test_any_wav_reader_finds_both_channels(samples, count, seed):
    shape = ChunkFormat(44100, samples, 2)
    audio = np.random.default_rng(seed).integers(-32768, 32768, (count, samples, 2)).astype(np.int16)
    records = shape.records(audio.reshape(count, -1), np.arange(count), np.arange(count))
    assert not shape.damaged(records).any()
    for record, chunk in zip(records, audio, strict=True):
        file = record[512 : 512 + shape.wav_bytes].tobytes()
        decoded, rate = soundfile.read(io.BytesIO(file), dtype="int16")
        assert (rate, decoded.shape) == (44100, (samples, 2))
        assert np.array_equal(decoded, chunk)
        with wave.open(io.BytesIO(file)) as other:
            assert (other.getnchannels(), other.getsampwidth(), other.getnframes()) == (2, 2, samples)
            assert other.readframes(samples) == chunk.astype("<i2").tobytes()


@given(st.lists(st.tuples(st.integers(0, 10**8 - 1), st.integers(0, 10**12 - 1)), min_size=1, max_size=5))
def test_names_go_both_ways(keys):
    names = np.stack([np.frombuffer(member_name(*key).encode(), np.uint8) for key in keys])
    source, start, good = read_names(names)
    assert good.all()
    assert [*zip(source.tolist(), start.tolist(), strict=True)] == keys
    assert [parse_name(member_name(*key)) for key in keys] == keys


@pytest.mark.parametrize("name", ["", "1_2.wav", "00000000_000000000000.flac", "0000000a_000000000000.wav"])
def test_other_names_are_refused(name):
    with pytest.raises(ValueError, match="not a chunk name"):
        parse_name(name)
    padded = np.frombuffer(name.encode().ljust(25, b"\0")[:25], np.uint8)
    assert not read_names(padded[None])[2][0]
