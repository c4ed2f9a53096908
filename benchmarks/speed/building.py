"""Building shards, compared with decoding and resampling alone, and with one ffmpeg process per file and lmdb."""

import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np
import soundfile
import soxr

from benchmarks.speed.support.data import check_room
from benchmarks.speed.support.rows import Row, compare, skipped
from benchmarks.speed.support.trial import Unavailable, in_new_process
from shards.practice.tunes import practice

MUSIC = Path("/usr/share/games/etr/music")  # ten pieces in Ogg Vorbis, of the Debian package extremetuxracer-data
SPEECH = Path(
    "/usr/share/asterisk/sounds/en_US_f_Allison"
)  # prompts of a few seconds, of the package asterisk-prompt-en
HOME = Path(__file__).parents[2]
RATE, CHUNK = 22050, 22050
BLOCK = 1 << 16  # frames
UNIT = "x real time"


@dataclass(frozen=True)
class Cost:
    """The time that a contender took."""

    seconds: float
    processor: float  # CPU seconds of all its processes; 0 if not measured


def measure(folder: Path, quick: bool) -> list[Row]:
    """Measures all contenders in turns on the same recordings. Ours is the whole command, including start and fsync."""
    check_room(folder, (1 if quick else 8) << 30)
    pieces, formats = _pieces(folder / "pieces", quick), ("wav", "flac", "ogg")
    short = _folder(folder / "short", _prompts(pieces, quick), ("wav",), 1)
    music = _folder(folder / "music", pieces, formats, 1 if quick else 3)
    packed = _folder(folder / "packed", pieces, ("flac", "ogg"), 1 if quick else 8)
    long = _folder(folder / "long", pieces, formats, 1 if quick else 9)  # two parts of similar length
    rounds, out = 2 if quick else 3, folder / "built"

    def build(audio: Path, workers: int = 1) -> Callable[[], Cost]:
        return partial(_build, audio, out, workers)

    def decode(audio: Path, resample: bool) -> Callable[[], Cost]:
        return partial(in_new_process, _decode, audio, resample)

    def per_file(audio: Path) -> Callable[[], Cost]:
        return partial(in_new_process, _ffmpeg_lmdb, audio, folder / "lmdb")

    one, alone, two = _take_turns(long, rounds, build(long), decode(long, True), build(long, 2))
    packed_one, packed_alone = _take_turns(packed, rounds, build(packed), decode(packed, False))
    rows = [
        _row("build, compared with decode + resample alone (wav, flac, ogg)", one, alone, 0.85),
        _row("build, compared with decode alone (flac, ogg)", packed_one, packed_alone, 0.7),
        _row("build with two workers, compared with one", two, one),
    ]
    for audio, what in ((music, "pieces of a minute"), (short, "recordings of seconds")):
        rows.append(
            _row(
                f"build, compared with one process per file (ffmpeg, lmdb), {what}",
                *_take_turns(audio, rounds, build(audio), per_file(audio)),
                3.0,
            )
        )
    return rows


@dataclass(frozen=True)
class _Speed:
    """Seconds of audio per second, by wall clock and by CPU time."""

    wall: float
    processor: float | None


def _row(name: str, ours: _Speed, other: "_Speed | Unavailable", target: float | None = None) -> Row:
    if isinstance(other, Unavailable):
        return skipped(name, UNIT, str(other), target)
    note = f"in CPU time {ours.processor / other.processor:.2f}" if ours.processor and other.processor else ""
    return compare(name, ours.wall, other.wall, UNIT, target, note=note)


def _pieces(folder: Path, quick: bool) -> list[Path]:
    """Real recordings if they are installed, else practice pieces; few or short ones if quick."""
    if MUSIC.is_dir():
        pieces = sorted(MUSIC.glob("*.ogg"), key=lambda path: path.stat().st_size)
        return pieces[:3] if quick else pieces
    if not folder.exists():
        practice(folder, minutes=0.5 if quick else 9.5)
    return sorted(folder.iterdir())


def _folder(folder: Path, pieces: list[Path], endings: tuple[str, ...], copies: int) -> Path:
    """A folder with `copies` of all pieces in all formats; it is made if it does not exist."""
    if folder.exists():
        return folder
    making = folder.with_name(folder.name + "-unfinished")
    shutil.rmtree(making, ignore_errors=True)
    making.mkdir(parents=True)
    for ending in endings:
        for piece in pieces:
            first = making / f"{piece.stem}-0.{ending}"
            if piece.suffix == f".{ending}":
                shutil.copyfile(piece, first)
            else:
                audio, rate = soundfile.read(piece, dtype="int16")
                soundfile.write(first, audio, rate)
            for copy in range(1, copies):
                os.link(first, making / f"{piece.stem}-{copy}.{ending}")
    making.rename(folder)
    return folder


def _prompts(pieces: list[Path], quick: bool) -> list[Path]:
    """Short recordings if they are installed, else the pieces."""
    if not SPEECH.is_dir():
        return pieces
    return sorted(SPEECH.glob("*.wav"))[: 20 if quick else 250]


def _take_turns(audio: Path, rounds: int, *contenders: Callable[[], Cost]) -> list[_Speed | Unavailable]:
    """The median speed of each contender, or why it is unavailable."""
    seconds = sum(soundfile.info(path).duration for path in audio.iterdir())
    costs: list[list[Cost] | Unavailable] = [[] for _ in contenders]
    for _ in range(rounds):
        for i, contender in enumerate(contenders):
            if isinstance(costs[i], list):
                try:
                    costs[i].append(contender())
                except Unavailable as why:
                    costs[i] = why
    return [_speed(seconds, found) if isinstance(found, list) else found for found in costs]


def _speed(seconds: float, costs: list[Cost]) -> _Speed:
    processor = median(cost.processor for cost in costs)
    return _Speed(seconds / median(cost.seconds for cost in costs), seconds / processor if processor else None)


def _build(audio: Path, out: Path, workers: int) -> Cost:
    """Runs our command."""
    shutil.rmtree(out, ignore_errors=True)
    words = [sys.executable, "-m", "shards", "build", audio, out, "--workers", workers]
    begin, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([str(word) for word in words], cwd=HOME, check=True, capture_output=True)
    seconds, after = time.perf_counter() - begin, resource.getrusage(resource.RUSAGE_CHILDREN)
    shutil.rmtree(out)
    return Cost(seconds, after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime)


def _decode(audio: Path, resample: bool) -> Cost:
    """Decodes all files block by block into one buffer, and resamples one channel of each."""
    begin, before = time.perf_counter(), time.process_time()
    for path in sorted(audio.iterdir()):
        with soundfile.SoundFile(path) as file:
            resampler = soxr.ResampleStream(file.samplerate, RATE, 1, dtype="float32", quality="HQ")
            buffer = np.empty((BLOCK, file.channels), np.float32)
            while True:
                block = file.read(out=buffer)
                if resample:
                    resampler.resample_chunk(block[:, 0], last=len(block) < BLOCK)
                if len(block) < BLOCK:
                    break
    return Cost(time.perf_counter() - begin, time.process_time() - before)


def _ffmpeg_lmdb(audio: Path, out: Path) -> Cost:
    """The method of RAVE's preprocessing: one decoding process per file, one transaction per chunk.

    It does less than the original: no second process for the number of channels, and no overlap of chunks.
    """
    if not shutil.which("ffmpeg"):
        raise Unavailable("ffmpeg is not installed")
    try:
        import lmdb
    except ModuleNotFoundError:
        raise Unavailable("lmdb is not installed") from None
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    begin, number = time.perf_counter(), 0
    with lmdb.open(str(out), map_size=1 << 33, map_async=True, writemap=True) as store:
        for path in sorted(audio.iterdir()):
            words = [
                "ffmpeg",
                "-hide_banner",
                "-loglevel",
                "panic",
                "-i",
                path,
                "-ar",
                RATE,
                "-ac",
                1,
                "-f",
                "s16le",
                "-",
            ]
            with subprocess.Popen([str(word) for word in words], stdout=subprocess.PIPE) as process:
                while chunk := process.stdout.read(2 * CHUNK):
                    with store.begin(write=True) as transaction:
                        transaction.put(f"{number:08d}".encode(), chunk)
                    number += 1
            if process.returncode:
                raise RuntimeError(f"ffmpeg failed on {path}")
        store.sync(True)
    seconds = time.perf_counter() - begin
    shutil.rmtree(out)
    return Cost(seconds, 0.0)
