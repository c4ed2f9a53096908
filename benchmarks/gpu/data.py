"""The data of the parts, made by the first part that needs them: generated music, and noise to read fast."""

import shutil
from pathlib import Path

import soundfile

from benchmarks.gpu.job import Job
from benchmarks.speed.support.data import make_shards
from shards.building.build import build
from shards.practice.tunes import practice

MINUTES, QUICK_MINUTES = 12.0, 0.6
NOISE_CHUNKS, QUICK_NOISE_CHUNKS = 16384, 256


def music(job: Job) -> Path:
    """Shards of generated music, a part of it held out."""
    shards, audio = job.folder / "music", job.folder / "audio"
    if not (shards / "dataset.json").exists():
        for folder in (shards, audio):
            shutil.rmtree(folder, ignore_errors=True)
        practice(audio, QUICK_MINUTES if job.quick else MINUTES, seed=1)
        _make_wav(audio)
        build(audio, shards, valid=0.2)
    return shards


def _make_wav(folder: Path) -> None:
    """Writes all recordings as WAV: FFmpeg reads other formats, and its 40 MB need not travel."""
    for path in sorted(folder.iterdir()):
        samples, rate = soundfile.read(path, dtype="int16")
        path.unlink()
        soundfile.write(path.with_suffix(".wav"), samples, rate)


def noise(job: Job) -> Path:
    """Shards of noise: enough chunks that batches do not repeat soon."""
    chunks = QUICK_NOISE_CHUNKS if job.quick else NOISE_CHUNKS
    return make_shards(job.folder / f"noise-{chunks}", chunks)
