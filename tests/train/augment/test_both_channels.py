"""Stereo chunks: windows and changes are those of both channels alike, the noise is another one in each."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import torch

from shards import Batch, BatchStream, Cursor, DataError, Split, by_channel
from shards.building.build import build
from shards.chunk import ChunkFormat
from train.augment import effects
from train.augment.draws import Draws, Purpose, seed_of_others
from train.augment.preparation import Preparation
from train.augment.settings import AUGMENTATIONS, OF_STEREO, AugmentConfig
from train.cli.which_samples import Taken, write_wavs

RATE, SAMPLES, CROP = 8000, 1200, 400
CPU = torch.device("cpu")
ALL = AugmentConfig(**dict.fromkeys(AUGMENTATIONS, 0.6))


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """The same recordings as stereo and as mono; some are shorter than a window."""
    root = tmp_path_factory.mktemp("both")
    (root / "audio").mkdir()
    rng = np.random.default_rng(0)
    for i, samples in enumerate((9000, 9000, 500, 300)):
        soundfile.write(root / "audio" / f"{i}.wav", rng.uniform(-0.5, 0.5, (samples, 2)), RATE, subtype="FLOAT")
    for name, channels in (("stereo", 2), ("mono", 1)):
        build(root / "audio", root / name, rate=RATE, samples=SAMPLES, valid=0, workers=1, channels=channels)
    return root


@pytest.fixture(scope="module")
def split(folders):
    return Split.open(folders / "stereo", "train")


def batches(split, seed, rank=0, world=1, steps=2):
    with BatchStream(split, 10, seed, rank, world, memory=0) as stream:
        return [replace(one, records=one.records.clone()) for one, _ in zip(stream, range(steps), strict=False)]


def of_samples(audio: torch.Tensor) -> Batch:
    """A batch of these chunks, int16 [n, channels, T]."""
    count, channels, samples = audio.shape
    numbers, zeros = np.arange(count), np.zeros(count, np.int64)
    interleaved = audio.transpose(1, 2).reshape(count, -1).numpy()
    records = ChunkFormat(RATE, samples, channels).records(interleaved, numbers, zeros)
    rows = torch.arange(count)
    return Batch(torch.from_numpy(records).view(torch.int16), samples, rows, numbers, Cursor(), Cursor(), channels)


def changed(audio: torch.Tensor, other: torch.Tensor | None = None, **settings) -> torch.Tensor:
    """Chunks int16 [n, channels, T] after augmentation of all of them."""
    split = SimpleNamespace(
        rate=RATE,
        samples=audio.shape[2],
        channels=audio.shape[1],
        where="data",
        manifest=SimpleNamespace(samples=1, sources=[], rate=1),
    )
    preparation = Preparation(AugmentConfig(**settings), 0, 11, split)  # type: ignore[arg-type]
    return preparation.audio(of_samples(audio), None if other is None else of_samples(other), 4, CPU)


def numbers(count: int = 40, channels: int = 2, seed: int = 0) -> torch.Tensor:
    return torch.randint(-4000, 4000, (count, channels, 300), generator=torch.Generator().manual_seed(seed)).short()


def test_off_is_the_chunk_itself(split):
    (batch,) = batches(split, 3, steps=1)
    found = Preparation(AugmentConfig(), 0, 3, split).audio(batch, None, 0, CPU)
    assert found.shape == (10, 2, SAMPLES)
    assert found.is_contiguous()
    assert torch.equal(found, by_channel(split.read(batch.chunks), 2).float() / 32768)


def test_windows_hold_both_channels_of_one_place(split):
    preparation = Preparation(AugmentConfig(), CROP, 3, split)
    for step, batch in enumerate(batches(split, 3)):
        audio, places = preparation.audio(batch, None, step, CPU), preparation.places(batch, step)
        whole = by_channel(split.read(batch.chunks), 2).float() / 32768
        for row, record, place in zip(audio, whole, places.tolist(), strict=True):
            assert torch.equal(row, record[:, place : place + CROP])


def test_windows_are_those_of_mono(folders, split):
    mono = Split.open(folders / "mono", "train")
    found = [
        [Preparation(AugmentConfig(), CROP, 3, one).places(batch, 0) for batch in batches(one, 3)]
        for one in (split, mono)
    ]
    assert np.array_equal(*found)


@pytest.mark.parametrize(("world", "microbatch"), [(1, 3), (2, 5), (4, 1)])
def test_any_division_of_a_batch_gives_the_same(split, world, microbatch):
    def prepared(world, microbatch):
        preparation, audio = Preparation(ALL, CROP, 7, split), torch.full((2, 10, 2, CROP), torch.nan)
        for rank in range(world):
            pairs = zip(*(batches(split, seed, rank, world) for seed in (7, seed_of_others(7))), strict=True)
            for step, (batch, other) in enumerate(pairs):
                for first in range(0, len(batch.rows), microbatch):
                    part = slice(first, first + microbatch)
                    audio[step, batch.rows[part]] = preparation.audio(batch, other, step, CPU, part)
        return audio

    found = prepared(world, microbatch)
    assert found.isfinite().all()
    assert torch.allclose(found, prepared(1, 10), atol=1e-5)


@pytest.mark.parametrize("name", [name for name in AUGMENTATIONS if name not in (*OF_STEREO, "noise")])
def test_both_channels_change_as_mono_does(name):
    """Sides that are the same stay so, and are what mono becomes; other sides change by the same rule."""
    mono, other = numbers(channels=1), numbers(channels=1, seed=5)
    expected = changed(mono, other, **{name: 0.5})
    both = changed(mono.repeat(1, 2, 1), other.repeat(1, 2, 1), **{name: 0.5})
    assert torch.allclose(both, expected.repeat(1, 2, 1), atol=1e-6)
    sides, others = torch.cat([mono, mono.flip(0)], 1), torch.cat([other, other.flip(0)], 1)
    found = changed(sides, others, **{name: 0.5})
    assert torch.allclose(found[:, :1], expected, atol=1e-6)
    assert not torch.allclose(found, sides / 32768, atol=1e-4)


def test_swap_exchanges_the_channels_of_a_share_of_the_rows():
    audio = numbers(400)
    found = changed(audio, swap=0.3) * 32768
    swapped = (found == audio.flip(1)).flatten(1).all(1)
    assert torch.equal(found[~swapped], audio[~swapped].float())
    assert 90 < swapped.sum() < 150
    assert torch.equal(changed(audio, swap=1.0) * 32768, audio.flip(1).float())


def test_noise_is_another_one_in_each_channel_and_as_strong():
    audio = numbers(200)
    audio[:, 1] //= 8
    noise = changed(audio, noise=1.0, noise_db=(20.0, 20.0)) - audio / 32768
    assert torch.corrcoef(noise.transpose(0, 1).flatten(1))[0, 1].abs() < 0.02
    left, right = noise.square().mean((0, 2)).sqrt().tolist()
    assert left == pytest.approx(right, rel=0.02)
    ratio = (audio / 32768).square().mean((1, 2)) / noise.square().mean((1, 2))
    assert ratio.numpy() == pytest.approx(100, rel=0.35)


def test_noise_of_mono_is_what_it_was():
    """The formula of the version that knew mono alone."""
    mono = numbers(channels=1)
    audio, draws = mono[:, 0].float().div(32768), Draws(11, 4, np.arange(len(mono)))
    waveform = effects.white_noise(torch.from_numpy(draws.bits(Purpose.NOISE_WAVEFORM).view(np.int64)), 300)
    ratio = torch.from_numpy(10 ** (draws.uniform(Purpose.NOISE_LEVEL, 20.0, 60.0) / 20)).float()
    expected = audio + waveform * (audio.square().mean(1).sqrt() / ratio)[:, None]
    assert torch.equal(changed(mono, noise=1.0)[:, 0], expected)
    assert [*Purpose][:14] == [*range(1, 15)]


def test_full_scale_is_one_for_both_channels():
    audio = numbers(8)
    found = changed(audio, gain=1.0, gain_db=(40.0, 40.0))
    assert found.abs().amax((1, 2)).tolist() == pytest.approx([1.0] * 8)
    assert torch.allclose(found, audio / audio.abs().amax((1, 2), keepdim=True))


def test_swap_is_refused_for_mono(folders):
    mono = Split.open(folders / "mono", "train")
    with pytest.raises(DataError) as raised:
        Preparation(AugmentConfig(swap=0.5), 0, 0, mono)
    assert str(raised.value) == (
        f"augment.swap is 0.5, and the chunks of {mono.where} are mono: set it to 0, or build the data again into "
        "another folder, with --channels 2"
    )
    Preparation(AugmentConfig(), 0, 0, mono)


def test_wav_files_of_a_step_have_both_channels(split, tmp_path):
    (batch,), (other,) = batches(split, 3, steps=1), batches(split, seed_of_others(3), steps=1)
    preparation = Preparation(replace(ALL, swap=1.0), CROP, 3, split)
    rows = [{"row": row, "name": name} for row, name in enumerate(split.names(batch.chunks))]
    write_wavs(Taken(batch, other, 3, 0), preparation, rows, RATE, tmp_path)
    audio = preparation.audio(batch, other, 0, CPU)
    for row in rows:
        found, rate = soundfile.read(tmp_path / f"{row['row']:05d}-{row['name']}", dtype="int16")
        assert (rate, found.shape) == (RATE, (CROP, 2))
        assert np.abs(found.T - audio[row["row"]].numpy() * 32768).max() <= 1
