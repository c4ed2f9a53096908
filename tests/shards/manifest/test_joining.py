from dataclasses import replace

import numpy as np
import pytest
import soundfile

from shards import DataError, Split
from shards.building.build import build
from shards.chunk import parse_name
from shards.manifest import Manifest
from shards.manifest.joining import join_manifests


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Two data sets of other sizes; the second is quiet."""
    root = tmp_path_factory.mktemp("sets")
    for name, seeds, level in (("music", range(6), 0.5), ("speech", range(10, 14), 0.05)):
        (root / f"{name}-audio").mkdir()
        for seed in seeds:
            noise = np.random.default_rng(seed).uniform(-level, level, 22050 + 500 * seed)
            soundfile.write(root / f"{name}-audio" / f"{seed}.wav", noise, 22050)
        settings = {"level": "none", "valid": 0.3, "chunks_per_shard": 30, "workers": 1}
        build(root / f"{name}-audio", root / name, samples=2205, hop=1000, **settings)
    return root / "music", root / "speech"


@pytest.mark.parametrize("name", ["train", "valid"])
def test_chunks_of_several_sets_are_those_of_each(folders, name):
    alone = [Split.open(folder, name) for folder in folders]
    both = Split.open(f"{folders[0]} + {folders[1]}:0.3", name)
    assert len(both) == sum(map(len, alone))
    assert [one.name for one in both.sets] == ["music", "speech"]
    assert both.fingerprint not in [one.fingerprint for one in alone]
    first = 0
    for number, one in enumerate(alone):
        chunks = np.arange(len(one))
        assert both.read(chunks + first).equal(one.read(chunks))
        assert (both.set_of(chunks + first) == number).all()
        assert both.place(first + 1)[0] == one.place(1)[0]
        for mine, theirs in zip(both.names(chunks + first), one.names(chunks), strict=True):
            source, start = parse_name(mine)
            row, same = parse_name(theirs)
            assert start == same
            assert both.manifest.sources[source].path == f"{one.sets[0].name}/{one.manifest.sources[row].path}"
        sources, starts = (column[first : first + len(one)] for column in both.keys())  # noqa: SIM118
        assert [*zip(sources.tolist(), starts.tolist(), strict=True)] == [
            parse_name(text) for text in both.names(chunks + first)
        ]
        first += len(one)
    assert both.manifest.levels[name].chunks == len(both)


def test_a_gain_is_applied_to_its_set_alone(folders):
    plain = Split.open(f"{folders[0]} + {folders[1]}", "train")
    turned = Split.open(f"{folders[0]} + {folders[1]}:6dB", "train")
    chunks = np.arange(len(plain))
    before, after = plain.read(chunks).numpy().astype(float), turned.read(chunks).numpy().astype(float)
    count = plain.sets[0].chunks
    assert (before[:count] == after[:count]).all()
    assert np.abs(after[count:] - before[count:] * 10**0.3).max() <= 0.5 + 1e-2
    assert np.abs(after[count:]).max() > 1.9 * np.abs(before[count:]).max()
    # Whole records stay as they are stored, for whoever checks or copies them.
    assert (plain.raw(chunks) == turned.raw(chunks)).all()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{0} + {0}", "the same data set"),
        ("{0}:7dB + {1}", "would clip, as its loudest recording has 6.0 dB"),
        ("{0} + {1}/nothing", "has no dataset.json"),
    ],
)
def test_sets_that_do_not_fit_are_refused(folders, text, message):
    with pytest.raises(DataError, match=message):
        Split.open(text.format(*folders), "train")


@pytest.mark.parametrize(("what", "value"), [("rate", 44100), ("samples", 4410), ("level", "rms")])
def test_chunks_that_differ_are_refused(folders, what, value):
    one, other = map(Manifest.load, folders)
    with pytest.raises(DataError, match=f"differ in their {what}: .* in a, {value}.* in b; build .* --{what}"):
        join_manifests([one, replace(other, **{what: value})], ["a", "b"])


def test_only_training_needs_the_split_in_every_set(folders, tmp_path):
    one, other = map(Manifest.load, folders)
    lonely = replace(other, splits={"train": other.splits["train"]}, levels={"train": other.levels["train"]})
    sources = [replace(source, split=source.split and "train") for source in other.sources]
    text = f"{folders[0]} + {folders[1]}"
    found = Split.open(text, "valid", manifests=[one, replace(lonely, sources=sources)])
    assert len(found) == one.chunks("valid")
    held = replace(other, splits={"valid": other.splits["valid"]}, levels={"valid": other.levels["valid"]})
    with pytest.raises(DataError, match="speech has no split 'train'"):
        Split.open(text, "train", manifests=[one, held])
