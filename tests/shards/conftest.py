from pathlib import Path

import numpy as np
import pytest
import soundfile

from shards.building.build import build


def music(seconds: float, rate: int, channels: int = 1, seed: int = 0) -> np.ndarray:
    """Noise over a tone, float32 [n] or [n, channels], different for each seed."""
    rng = np.random.default_rng(seed)
    t = np.arange(int(seconds * rate)) / rate
    mono = 0.4 * np.sin(2 * np.pi * (200 + 37 * seed) * t) + 0.05 * rng.standard_normal(len(t))
    return mono if channels == 1 else np.stack([mono * (1 - 0.2 * c) for c in range(channels)], axis=1)


@pytest.fixture(scope="session")
def audio_dir(tmp_path_factory) -> Path:
    """Eight whole recordings: formats, rates and channels of all kinds, in folders with awkward names."""
    folder = tmp_path_factory.mktemp("audio")
    (folder / "a [b] ü").mkdir()
    kinds = [
        ("one.wav", 44100, 2, "PCM_16"),
        ("two.flac", 48000, 1, "PCM_24"),
        ("three.ogg", 22050, 1, "VORBIS"),
        ("four.mp3", 32000, 2, "MPEG_LAYER_III"),
        ("five.aiff", 8000, 1, "PCM_16"),
        ("a [b] ü/six.seven.WAV", 22050, 1, "FLOAT"),
        ("a [b] ü/eight", 96000, 2, "PCM_24"),
        ("nine.au", 11025, 1, "ULAW"),
    ]
    for seed, (name, rate, channels, subtype) in enumerate(kinds):
        form = "WAV" if name.endswith("eight") else None
        soundfile.write(folder / name, music(2.3 + 0.3 * seed, rate, channels, seed), rate, subtype, format=form)
    return folder


@pytest.fixture(scope="session")
def data_dir(audio_dir, tmp_path_factory) -> Path:
    """Those recordings as 0.1 s chunks in several shards. Tests leave it as it is."""
    folder = tmp_path_factory.mktemp("data") / "set"
    build(audio_dir, folder, samples=2205, hop=1000, valid=0.2, chunks_per_shard=100, workers=1)
    return folder
