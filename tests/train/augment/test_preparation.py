"""What the model takes: windows inside the recordings, the same for any division of a batch, and no clipping."""

from dataclasses import replace

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given
from hypothesis import strategies as st

from shards import Batch, BatchStream, Cursor, Split
from shards.building.build import build
from shards.chunk import ChunkFormat
from train.augment.draws import seed_of_others
from train.augment.preparation import Preparation, lengths_of
from train.augment.recorded import augment_of, crop_of
from train.augment.settings import AUGMENTATIONS, OF_STEREO, AugmentConfig
from train.config import flat

RATE, SAMPLES, CROP = 8000, 1200, 400
ALL = AugmentConfig(**{name: 0.6 for name in AUGMENTATIONS if name not in OF_STEREO})
CPU = torch.device("cpu")
START = Cursor()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Recordings of many chunks, and short ones of which the chunk is padded: 500 samples, and 300."""
    folder = tmp_path_factory.mktemp("windows")
    (folder / "audio").mkdir()
    rng = np.random.default_rng(0)
    for i, samples in enumerate((9000, 9000, 7000, 500, 300)):
        audio = rng.uniform(-0.5, 0.5, samples) + np.sin(np.arange(samples) / (5 + i))
        soundfile.write(folder / "audio" / f"{i}.wav", audio, RATE, subtype="FLOAT")
    build(folder / "audio", folder / "set", rate=RATE, samples=SAMPLES, valid=0, workers=1)
    return folder / "set"


@pytest.fixture(scope="module")
def split(folder):
    return Split.open(folder, "train")


def batches(split, seed, rank=0, world=1, cursor=START, steps=3, size=10):
    """Batches that stay when the next one comes."""
    with BatchStream(split, size, seed, rank, world, cursor, memory=0) as stream:
        return [replace(one, records=one.records.clone()) for one, _ in zip(stream, range(steps), strict=False)]


def prepared(split, world, microbatch, first_step=0, steps=3, augment=ALL, crop=CROP, seed=7):
    """Audio and windows of each step, from all ranks, by row of the global batch."""
    preparation = Preparation(augment, crop, seed, split)
    cursor = batches(split, seed, steps=first_step)[-1].next_cursor if first_step else START
    audio = torch.full((steps, 10, crop or split.samples), torch.nan)
    places = np.full((steps, 10), -1)
    for rank in range(world):
        own = batches(split, seed, rank, world, cursor, steps)
        others = batches(split, seed_of_others(seed), rank, world, cursor, steps)
        for step, (batch, other) in enumerate(zip(own, others, strict=True)):
            places[step, batch.rows.numpy()] = preparation.places(batch, first_step + step)
            for first in range(0, len(batch.rows), microbatch):
                part = slice(first, first + microbatch)
                audio[step, batch.rows[part]] = preparation.audio(batch, other, first_step + step, CPU, part).squeeze(1)
    return audio, places


@pytest.fixture(scope="module")
def alone(split):
    return prepared(split, 1, 10)


@pytest.mark.parametrize(("world", "microbatch"), [(1, 3), (2, 5), (3, 2), (8, 1)])
def test_any_division_of_a_batch_gives_the_same(split, alone, world, microbatch):
    audio, places = prepared(split, world, microbatch)
    assert np.array_equal(places, alone[1])
    assert audio.isfinite().all()
    assert torch.allclose(audio, alone[0], atol=1e-5)  # a filter of more rows may round in another way


@given(st.integers(1, 2), st.integers(1, 4))
def test_a_resumed_run_takes_the_same(split, alone, first_step, world):
    audio, places = prepared(split, world, 10, first_step, 3 - first_step)
    assert np.array_equal(places, alone[1][first_step:])
    assert torch.allclose(audio, alone[0][first_step:], atol=1e-5)


def test_a_resumed_process_takes_the_same_bit_for_bit(split, alone):
    assert torch.equal(prepared(split, 1, 10, 1, 2)[0], alone[0][1:])


def test_windows_lie_in_the_recordings_and_padding_is_left_out(split):
    preparation = Preparation(AugmentConfig(), CROP, 0, split)
    sources, starts = split.keys()
    lengths = {i: round(source.duration_s * RATE) for i, source in enumerate(split.manifest.sources)}
    assert {500, 300} < {*lengths.values()}
    seen: dict[int, set[int]] = {}
    for step, batch in enumerate(batches(split, 0, steps=60)):
        places = preparation.places(batch, step)
        audio = preparation.audio(batch, None, step, CPU).squeeze(1) * 32768
        whole = split.read(batch.chunks)
        for row, (chunk, place) in enumerate(zip(batch.chunks, places.tolist(), strict=True)):
            assert 0 <= place <= SAMPLES - CROP
            length = lengths[int(sources[chunk])]
            assert starts[chunk] + place + min(length, CROP) <= length
            assert torch.equal(audio[row].short(), whole[row, place : place + CROP])
            seen.setdefault(min(length, SAMPLES), set()).add(place)
    assert seen[300] == {0}
    assert seen[500] <= {*range(101)}
    assert len(seen[500]) > 5
    assert min(seen[SAMPLES]) < 30
    assert max(seen[SAMPLES]) > 770


def test_off_is_the_chunk_itself(split):
    (batch,) = batches(split, 3, steps=1)
    found = Preparation(AugmentConfig(), 0, 3, split).audio(batch, None, 0, CPU)
    assert torch.equal(found, batch.on(CPU).unsqueeze(1).float().div(32768))
    assert not Preparation(AugmentConfig(), 0, 3, split).places(batch, 0).any()


def of_samples(audio: torch.Tensor) -> Batch:
    """A batch of these chunks, int16 [n, T], of a recording that is not in the manifest."""
    numbers, zeros = np.arange(len(audio)), np.zeros(len(audio), np.int64)
    records = ChunkFormat(RATE, audio.shape[1]).records(audio.numpy(), numbers, zeros)
    rows = torch.arange(len(audio))
    return Batch(torch.from_numpy(records).view(torch.int16), audio.shape[1], rows, numbers, Cursor(), Cursor())


@pytest.fixture(scope="module")
def data(folder):
    return Split.open(folder, "train")


def changed(data: Split, audio: torch.Tensor, other: torch.Tensor | None = None, **settings) -> torch.Tensor:
    """Chunks int16 [n, T] after augmentation of all of them, [n, T]."""
    preparation = Preparation(AugmentConfig(**settings), 0, 11, data)
    return preparation.audio(of_samples(audio), None if other is None else of_samples(other), 4, CPU).squeeze(1)


def test_each_change_does_what_its_name_says(data):
    numbers = torch.randint(-8000, 8000, (64, 300), generator=torch.Generator().manual_seed(0)).short()
    audio = numbers / 32768
    assert torch.equal(changed(data, numbers, polarity=1.0), -audio)
    assert torch.equal(changed(data, numbers, reverse=1.0), audio.flip(1))
    some = changed(data, numbers, polarity=0.5)
    flipped = (some == -audio).all(1)
    assert torch.equal(some[~flipped], audio[~flipped])
    assert 15 < flipped.sum() < 49
    decibels = 20 * (changed(data, numbers, gain=1.0, gain_db=(-9.0, 3.0)) / audio).nanmedian(1).values.log10()
    assert -9 <= decibels.min() < -8
    assert 2 < decibels.max() <= 3
    same = changed(data, numbers, gain=1.0, gain_db=(-6.0, -6.0)) / audio
    assert same[audio != 0] == pytest.approx(10**-0.3, rel=1e-5)
    noise = changed(data, numbers, noise=1.0, noise_db=(20.0, 40.0)) - audio
    ratio = 20 * (audio.square().mean(1) / noise.square().mean(1)).sqrt().log10()
    assert 19 < ratio.min() < 22
    assert 38 < ratio.max() < 41
    low = changed(data, numbers, lowpass=1.0, lowpass_hz=(500.0, 500.0))
    assert torch.fft.rfft(low)[:, 80:].abs().mean() < 0.05 * torch.fft.rfft(audio)[:, 80:].abs().mean()


def test_mixing_adds_the_other_chunk_at_its_level(data):
    generator = torch.Generator().manual_seed(1)
    own, other = (torch.randint(-8000, 8000, (32, 300), generator=generator).short() for _ in range(2))
    added = changed(data, own, other, mix=1.0, mix_db=(-20.0, 0.0)) - own / 32768
    factor = (added * other).sum(1) / (other / 32768 * other).sum(1)
    assert added == pytest.approx(factor[:, None] * other / 32768, abs=1e-6)
    assert 0.1 <= factor.min() < 0.2
    assert 0.7 < factor.max() <= 1


def test_nothing_clips(data):
    loud = torch.full((16, 300), 32767, dtype=torch.int16)
    loud[:, ::2] = -32768
    found = changed(data, loud, loud, gain=1.0, gain_db=(20.0, 20.0), mix=1.0, noise=1.0, noise_db=(0.0, 0.0))
    assert found.abs().amax(1).tolist() == pytest.approx([1.0] * 16)
    assert found.abs().quantile(0.2) < 0.9, "scaled, not clipped"
    assert torch.equal(changed(data, loud, reverse=1.0), loud.flip(1) / 32768)


def test_recorded_settings_are_read_back_and_damaged_ones_refused():
    written = {f"augment.{key}": value for key, value in flat(ALL).items()}
    assert augment_of(written) == ALL
    assert augment_of({}) == AugmentConfig()
    assert augment_of({"augment.gain": None}) == AugmentConfig()
    for name, value in (("gain", 2), ("gain", "1"), ("mix_db", 3), ("mix_db", [0, 1, 2]), ("noise_db", [5, 1])):
        with pytest.raises(ValueError, match=f"augment.{name}"):
            augment_of({f"augment.{name}": value})
    assert (crop_of({}), crop_of({"data.crop": None}), crop_of({"data.crop": 9})) == (0, 0, 9)
    for crop in (-1, "4", 2.5):
        with pytest.raises(ValueError, match=r"data\.crop"):
            crop_of({"data.crop": crop})


@pytest.mark.parametrize(
    ("name", "value"),
    [("gain_db", (3.0, -3.0)), ("mix_db", (-101.0, 0.0)), ("noise_db", (0.0, float("nan")))]
    + [("lowpass_hz", pair) for pair in ((0.0, 100.0), (200.0, 100.0), (1.0, float("inf")))],
)
def test_a_range_that_is_none_is_refused(name, value):
    with pytest.raises(ValueError, match=rf"augment\.{name} is \["):
        AugmentConfig(**{name: value})


def test_short_recordings_of_a_second_set_are_known_by_their_set(folder, tmp_path):
    """Each set numbers its recordings from 0: the first of the second set is short, that of the first is not."""
    (tmp_path / "audio").mkdir()
    soundfile.write(tmp_path / "audio" / "short.wav", np.sin(np.arange(500) / 3), RATE, subtype="FLOAT")
    build(tmp_path / "audio", tmp_path / "short", rate=RATE, samples=SAMPLES, valid=0, workers=1)
    both = Split.open(f"{folder} + {tmp_path / 'short'}", "train")
    preparation = Preparation(AugmentConfig(), CROP, 0, both)
    chunks = np.array([0, len(both) - 1])
    records = torch.from_numpy(both.raw(chunks)).view(torch.int16)
    batch = Batch(records, SAMPLES, torch.arange(2), chunks, START, START)
    long, short = np.array([preparation.places(batch, step) for step in range(50)]).T
    assert 0 <= short.min() < short.max() <= 500 - CROP < long.max() <= SAMPLES - CROP


def test_lengths_of_any_manifest_are_found(folder):
    manifest = Split.open(folder, "train").manifest
    assert lengths_of(manifest).tolist() == [1200, 1200, 1200, 500, 300]
    assert lengths_of(replace(manifest, sources=[])) is None
    endless = [replace(source, duration_s=1e308) for source in manifest.sources]
    assert lengths_of(replace(manifest, sources=endless)) is None
