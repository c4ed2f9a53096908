"""Awkward recordings as people have them, made here, with what is right to make of each."""

import io
import os
import struct
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import soundfile

RATE = 44100


@dataclass(frozen=True)
class Right:
    """What is right: the seconds that are kept, 0 for a file that is skipped, and the beginning of a note or reason."""

    seconds: float
    note: str = ""


def tone(seconds: float, rate: int = RATE, channels: int = 2, seed: int = 0) -> np.ndarray:
    """A vibrato with a little noise, float32 [n, channels]."""
    t = np.arange(int(seconds * rate)) / rate
    noise = np.random.default_rng(seed).standard_normal(len(t))
    one = 0.5 * np.sin(2 * np.pi * 220 * t * (1 + 0.05 * np.sin(t + seed))) + 0.02 * noise
    return np.stack([one * (1 - 0.1 * channel) for channel in range(channels)], 1).astype(np.float32)


def written(audio: np.ndarray, form: str, subtype: str, rate: int = RATE) -> bytes:
    """A file by libsndfile."""
    content = io.BytesIO()
    with soundfile.SoundFile(content, "w", rate, audio.shape[1], subtype, format=form) as file:
        for begin in range(0, len(audio), RATE):  # its Vorbis encoder fails on long blocks
            file.write(audio[begin : begin + RATE])
    return content.getvalue()


def encoded(path: Path, audio: np.ndarray, codec: str, rate: int = RATE, **options: str) -> None:
    """A file by FFmpeg, in the container of its ending."""
    with av.open(str(path), "w", options=options) as container:
        stream = container.add_stream(codec, rate=rate, layout="stereo")
        context = stream.codec_context
        context.bit_rate = 128_000
        context.open()
        container.start_encoding()
        size = context.frame_size or 4096
        for begin in range(0, len(audio), size):
            piece = np.ascontiguousarray(audio[begin : begin + size].T)
            frame = av.AudioFrame.from_ndarray(piece, format="fltp", layout="stereo")
            frame.sample_rate, frame.pts, frame.time_base = rate, begin, Fraction(1, rate)
            resampler = av.AudioResampler(context.format.name, "stereo", rate)
            for ready in resampler.resample(frame):
                container.mux(stream.encode(ready))
        container.mux(stream.encode(None))


def make(folder: Path) -> dict[str, Right]:
    """Writes all files; returns what is right for each relative path, with forward slashes."""
    right: dict[str, Right] = {}

    def put(name: str, content: bytes, seconds: float, note: str = "") -> None:
        right[name] = Right(seconds, note)
        path = os.path.join(os.fsencode(folder), os.fsencode(name))
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(content)

    _wav(put)
    _flac(put)
    _ogg(put)
    _mpeg(put, folder)
    _others(put, folder, right)
    _levels(put)
    for name in ("names/caf\udce9 \udcff.wav", "names/new\nline.wav", "names/-rf.wav", f"names/{'x' * 240}.wav"):
        put(name, written(tone(1), "WAV", "PCM_16"), 1)
    return right


def _wav(put) -> None:
    plain = written(tone(4), "WAV", "PCM_16")
    assert plain[36:40] == b"data"

    def sized(riff: int, data: int) -> bytes:
        return plain[:4] + struct.pack("<I", riff) + plain[8:40] + struct.pack("<I", data) + plain[44:]

    put("wav/plain.wav", plain, 4)
    put("wav/lost-power.wav", sized(0, 0), 4, "its header is wrong")
    put("wav/wrapped.wav", sized(36 + 88200, 88200), 4, "its header is wrong")
    put("wav/unknown.wav", sized(0xFFFFFFFF, 0xFFFFFFFF), 4)
    put("wav/promises-3-gb.wav", sized(3_000_000_036, 3_000_000_000), 4, "its header promises 3,000,000,000 bytes")
    put("wav/cut.wav", plain[: int(0.7 * len(plain))], 2.8, "truncated or damaged: 2.80 of 4.00 s")
    put("wav/cut-short.wav", plain[: len(plain) // 3], 0, "truncated or damaged: only 1.33 of 4.00 s")
    put("wav/tag-behind.wav", plain + b"TAG" + b"song".ljust(125, b"\0"), 4)
    put("wav/zeros-behind.wav", plain + bytes(30_000), 4)
    put("wav/chunk-behind.wav", plain + b"LIST" + struct.pack("<I", 40_000) + b"x" * 40_000, 4)
    put("wav/odd-chunk-behind.wav", plain + b"bext" + struct.pack("<I", 9999) + b"y" * 9999 + b"\0", 4)
    put(
        "wav/rate-of-1-hz.wav", plain[:24] + struct.pack("<I", 1) + plain[28:], 0, "unreadable: its header names a rate"
    )
    put("wav/24.wav", written(tone(2), "WAV", "PCM_24"), 2)
    put("wav/adpcm.wav", written(tone(2), "WAV", "IMA_ADPCM"), 2)
    put("wav/8-channels.wav", written(tone(2, channels=8), "WAV", "PCM_16"), 2)
    put("wav/empty.wav", b"", 0, "empty: it has no bytes")
    put("wav/no-samples.wav", written(tone(0), "WAV", "PCM_16"), 0, "empty: it has no samples")


def _flac(put) -> None:
    plain = bytearray(written(tone(4), "FLAC", "PCM_16"))

    def counted(samples: int) -> bytes:
        changed = bytearray(plain)
        changed[21] = changed[21] & 0xF0 | samples >> 32
        changed[22:26] = (samples & 0xFFFFFFFF).to_bytes(4, "big")
        return bytes(changed)

    put("flac/plain.flac", bytes(plain), 4)
    put("flac/unknown.flac", counted(0), 4)
    put("flac/says-1-s.flac", counted(RATE), 4, "its header is wrong")
    put("flac/says-3.9-s.flac", counted(int(3.9 * RATE)), 4, "its header is wrong")
    put("flac/tag-behind.flac", bytes(plain) + b"TAG" + bytes(125), 4)
    put("flac/tag-before.flac", b"ID3\4\0\0\0\0\2\0" + bytes(256) + bytes(plain), 4)
    put("flac/cut.flac", bytes(plain[: int(0.7 * len(plain))]), 2.7, "truncated or damaged")


def _ogg(put) -> None:
    parts = [written(tone(4, seed=seed), "OGG", "VORBIS") for seed in range(3)]
    opus = [written(tone(3, 48000, seed=seed), "OGG", "OPUS", 48000) for seed in range(2)]
    put("ogg/plain.ogg", parts[0], 4)
    put("ogg/plain.opus", opus[0], 3)
    put("ogg/chained.ogg", b"".join(parts), 12)
    put("ogg/the-same-twice.ogg", parts[0] * 2, 8)
    put("ogg/chained.opus", b"".join(opus), 6)
    other_rate = written(tone(2, 22050), "OGG", "VORBIS", 22050)
    put("ogg/of-two-rates.ogg", parts[0] + other_rate, 6)
    put("ogg/garbage-behind.ogg", parts[0] + b"garbage" * 2000, 4)
    put("ogg/cut.ogg", parts[0][: int(0.7 * len(parts[0]))], 2.29, "truncated: its last Ogg page is incomplete")


def _mpeg(put, folder: Path) -> None:
    paths = {}
    for name, options in {"info": {}, "plain": {"write_xing": "0"}}.items():
        paths[name] = folder / f"{name}.mp3"
        encoded(paths[name], tone(4), "libmp3lame", **options)
    info, plain = (paths[name].read_bytes() for name in ("info", "plain"))
    for path in paths.values():
        path.unlink()
    put("mp3/info.mp3", info, 4)
    put("mp3/without-info.mp3", plain, 4)
    put("mp3/tag-behind.mp3", plain + b"TAG" + bytes(125), 4)
    put("mp3/cover.mp3", b"ID3\3\0\0" + bytes([0, 64, 0, 0]) + bytes(64 << 14) + info, 4)
    put("mp3/joined.mp3", info + info, 8)
    put("mp3/joined-without-info.mp3", plain * 3, 12)
    put("mp3/cut.mp3", info[: int(0.7 * len(info))], 2.8, "truncated or damaged")
    put(
        "mp3/web-page.mp3", b"<!DOCTYPE html><html><body>Not found</body></html>", 0, "unreadable: it is a page of HTML"
    )
    put("mp3/noise.mp3", np.random.default_rng(0).bytes(30_000), 0, "unreadable")


def _others(put, folder: Path, right: dict[str, Right]) -> None:
    (folder / "other").mkdir()
    for name, codec, rate in (
        ("aac.m4a", "aac", RATE),
        ("alac.m4a", "alac", RATE),
        ("opus.webm", "libopus", 48000),
        ("flac.mka", "flac", RATE),
        ("wma.wma", "wmav2", RATE),
        ("ac3.ac3", "ac3", RATE),
        ("mp2.mp2", "mp2", RATE),
        ("adts.aac", "aac", RATE),
        ("pcm.mov", "pcm_s16le", RATE),
    ):
        encoded(folder / "other" / name, tone(4, rate), codec, rate)
        right[f"other/{name}"] = Right(4)
    put("other/pcm.caf", written(tone(4), "CAF", "PCM_16"), 4)
    put("other/pcm.aiff", written(tone(4), "AIFF", "PCM_24"), 4)
    put("other/notes.txt", b"not a recording", 0, "not audio")
    adts = (folder / "other/adts.aac").read_bytes()
    put("other/no-sound-by-its-name.bin", adts, 0, "not audio")
    put("other/noise.als", np.random.default_rng(1).bytes(30_000), 0, "not audio")
    put("other/list.m3u8", b"#EXTM3U\n#EXTINF:4,\n../wav/plain.wav\n", 0, "not audio")
    put("other/list.mp3", b"#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXTINF:4,\n../wav/plain.wav\n", 0, "unreadable")
    put("other/concat.mp4", b"ffconcat version 1.0\nfile '../wav/plain.wav'\n", 0, "unreadable")


def _levels(put) -> None:
    def floats(audio: np.ndarray) -> bytes:
        return written(audio.astype(np.float32), "WAV", "FLOAT")

    side = tone(2, channels=1)
    put("levels/antiphase.wav", written(np.concatenate([side, -0.999 * side], 1), "WAV", "PCM_16"), 2, "cancelling")
    put("levels/constant.wav", floats(0.6 + 0.01 * side), 2, "constant")
    put("levels/quiet.wav", floats(1e-3 * side), 2, "too quiet: raised by")
    put("levels/as-integers.wav", floats(20_000 * side), 2, "too loud: its peak is")
    for value in (1e6, -3e38):
        wild = tone(2).copy()
        wild[30_000, 0] = value
        put(f"levels/wild-{value:g}.wav", floats(wild), 2, "repaired: 1 single wild sample")
    broken = tone(2).copy()
    broken[30_000, 0] = np.nan
    put("levels/nan.wav", floats(broken), 0, "not finite")
    put("levels/silent.wav", floats(np.zeros((RATE, 1))), 1, "silent")
