"""Opus, the codec that a listener would use today, in memory."""

import functools
from fractions import Fraction
from typing import cast

import av
import numpy as np
import soxr
from av.audio.codeccontext import AudioCodecContext

from shards.reading.channels import LAYOUTS
from train.evaluation.yardsticks.alignment import aligned
from train.evaluation.yardsticks.codes import Coded

# Opus works at this rate, in frames of 20 ms.
OPUS_RATE = 48000
FRAME = 960
ENCODER = "libopus"


@functools.cache
def has_opus() -> bool:
    """Whether the FFmpeg libraries of PyAV can encode Opus; those of its wheels can."""
    try:
        av.codec.Codec(ENCODER, "w")
    except av.codec.codec.UnknownCodecError:
        return False
    return True


def opus(audio: np.ndarray, rate: int, bits_per_second: int) -> Coded:
    """Encodes and decodes audio by Opus, without the delay of the codec.

    With the encoder's defaults: variable bit rate, the setting for music, and the highest effort. Bits are those of
    all packets, without a container.

    Args:
        audio: [T], of stereo [2, T], float32 in [-1, 1].
        rate: Its sample rate in Hz; soxr resamples to 48 kHz and back.
        bits_per_second: The bit rate to ask for; packets take a few percent more or less.
    """
    packets = encode(soxr.resample(audio.T, rate, OPUS_RATE).T, bits_per_second)
    heard = soxr.resample(decode(packets, audio.ndim).T, OPUS_RATE, rate).T
    return Coded(aligned(audio, heard.astype(np.float32), rate), 8 * sum(map(len, packets)))


def encode(audio: np.ndarray, bits_per_second: int) -> list[bytes]:
    """The Opus packets of audio at 48 kHz, [T], of stereo [2, T].

    Silence after its end carries the last samples through the codec.
    """
    layout = LAYOUTS[audio.ndim]
    encoder = cast(AudioCodecContext, av.CodecContext.create(ENCODER, "w"))
    encoder.sample_rate, encoder.layout, encoder.format = OPUS_RATE, layout, "flt"
    encoder.bit_rate = bits_per_second
    encoder.options = {"application": "audio"}
    encoder.open()
    rows = np.atleast_2d(audio).astype(np.float32)
    padded = np.pad(rows, ((0, 0), (0, FRAME + -rows.shape[1] % FRAME)))
    packets = []
    for first in range(0, padded.shape[1], FRAME):
        interleaved = np.ascontiguousarray(padded[:, first : first + FRAME].T).reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(interleaved, format="flt", layout=layout)
        frame.sample_rate, frame.pts, frame.time_base = OPUS_RATE, first, Fraction(1, OPUS_RATE)
        packets += encoder.encode(frame)
    return [bytes(packet) for packet in (*packets, *encoder.encode(None))]


def decode(packets: list[bytes], channels: int = 1) -> np.ndarray:
    """The audio at 48 kHz of Opus packets, [T], of 2 channels [2, T], float32."""
    decoder = av.CodecContext.create("opus", "r")
    decoder.sample_rate, decoder.layout = OPUS_RATE, LAYOUTS[channels]
    frames = [frame for packet in packets for frame in decoder.decode(av.Packet(packet))]
    frames += decoder.decode(None)
    whole = np.concatenate([frame.to_ndarray() for frame in frames], axis=1)
    return whole[0] if channels == 1 else whole
