"""Reconstructs, streams, encodes and decodes whole files."""

import time
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from audiovae.errors import ModelError, ModelWarning
from audiovae.models.autoencoder import Autoencoder
from audiovae.output import check_apart, model_errors
from audiovae.recordings.audio_file import check_length, check_wav, write_pieces
from audiovae.recordings.compressed import STEP, compressed, decompressed
from audiovae.recordings.compressed_file import (
    SUFFIX,
    CompressedRecording,
    check_compressed_file,
    is_compressed,
    read_compressed,
    write_compressed,
)
from audiovae.recordings.latents import CodedRecording, Precision, decoded, encoded
from audiovae.recordings.latents_file import check_latents_file, read_latents, write_latents
from audiovae.recordings.on_disk import DecodedRecording, decoded_recording
from audiovae.recordings.overlap_add import check_overlap
from audiovae.recordings.reconstruction import OVERLAP, reconstructed
from audiovae.streaming.stream import Stream, stream
from shards.files import made_folder

EXACT_OVERLAP = OVERLAP  # of exact latents, as of reconstructions
# Samples of a block of `stream_file`, 23 ms at 22,050 Hz, and the most.
BLOCK = 512
LARGEST_BLOCK = 1 << 20


def reconstruct_file(
    model: Autoencoder, source: str | Path, output: str | Path, overlap: float | None = OVERLAP
) -> float:
    """Encodes and decodes a recording with a model, piece by piece: the memory does not depend on the length.

    A recording of more than 64 MB in float32 is kept in a temporary file beside the output.

    Args:
        model: A model in evaluation mode.
        source: A recording in any format that libsndfile or FFmpeg read, any rate, length and channels.
        output: The 16-bit WAV file to write, with the model's rate and channels.
        overlap: As in `reconstruct_recording`; None takes the recording in one pass where the model allows it.

    Returns:
        The length in seconds.

    Raises:
        ModelError: if a file cannot be read or written, or the output is the source itself.
    """
    check_overlap(overlap or 0.0)
    check_apart(output, source)
    check_wav(output)
    with _beside(model, source, output) as recording:
        pieces = reconstructed(model, recording.at(model.level), overlap)
        _write(model, output, pieces, recording.length)
        return recording.length / model.rate


def _write(model: Autoencoder, output: str | Path, pieces: Iterable[Tensor], length: int) -> None:
    """Writes a WAV file; warns of samples beyond full scale."""
    if clipped := write_pieces(output, pieces, length, model.rate, model.audio_channels):
        warnings.warn(clipped, ModelWarning, stacklevel=3)


@contextmanager
def _beside(model: Autoencoder, source: str | Path, output: str | Path) -> Iterator[DecodedRecording]:
    """The decoded source, with room for it in the folder of the output, which is made when missing."""
    folder = Path(output).parent
    with (
        model_errors(Path(output)),
        made_folder(folder),
        decoded_recording(source, model.rate, folder, model.audio_channels) as recording,
    ):
        if recording.note:
            warnings.warn(recording.note, ModelWarning, stacklevel=4)  # at the caller of the function with the `with`
        yield recording


@dataclass
class Streamed:
    """What `stream_file` measured.

    Attributes:
        seconds: Length of the recording.
        latency: By which the stream's output is later than its input, in samples.
        rate: Of the model in Hz.
        real_time_factor: Seconds of computing for a second of audio, without reading and writing.
    """

    seconds: float
    latency: int
    rate: int
    real_time_factor: float


def stream_file(model: Autoencoder, source: str | Path, output: str | Path, block: int = BLOCK) -> Streamed:
    """Passes a recording through a causal model block by block; the output is as long and begins with it.

    Args:
        model: A causal model in evaluation mode.
        source, output: As in `reconstruct_file`.
        block: Samples of a block, 1 to LARGEST_BLOCK.

    Raises:
        ModelError: if the model is not causal, a file cannot be read or written, or the output is the source itself.
    """
    if not 1 <= block <= LARGEST_BLOCK:
        raise ModelError(f"--block {block}: choose 1 to {LARGEST_BLOCK:,}")
    stream(model)  # whether it can, before the work begins
    check_apart(output, source)
    check_wav(output)
    spent = [0.0]
    with _beside(model, source, output) as recording:
        through = stream(model, recording.gain(model.level))
        pieces = _streamed(through, recording, block, spent)
        _write(model, output, pieces, recording.length)
        seconds = recording.length / model.rate
    return Streamed(seconds, through.latency, model.rate, spent[0] / seconds)


def _streamed(through: Stream, recording: DecodedRecording, block: int, spent: list[float]) -> Iterator[Tensor]:
    """The output of a stream without its latency; adds the seconds that the stream took."""
    late, waiting, kept = through.latency, [], 0

    def timed(samples: Tensor | None) -> Tensor:
        begin = time.perf_counter()
        found = through.finish()[0].squeeze(0) if samples is None else through.process_block(samples)
        found = found.cpu()
        spent[0] += time.perf_counter() - begin
        return found

    for first in range(0, recording.length, block):
        found = timed(recording.read(first, min(first + block, recording.length)))
        waiting.append(found[..., min(late, found.shape[-1]) :])
        late -= min(late, found.shape[-1])
        kept += waiting[-1].shape[-1]
        if kept >= LARGEST_BLOCK:
            yield torch.cat(waiting, dim=-1)
            waiting, kept = [], 0
    yield torch.cat([*waiting, timed(None)[..., late:]], dim=-1)


def encode_file(
    model: Autoencoder,
    source: str | Path,
    output: str | Path,
    overlap: float | None = None,
    precision: Precision = "float32",
    step: float = STEP,
) -> CodedRecording | CompressedRecording:
    """Writes the latents of a recording: few bits to NAME.coded, or exact latents to NAME.safetensors.

    A recording of more than 64 MB in float32 is kept in a temporary file beside the output.

    Args:
        model: A model in evaluation mode.
        source: A recording, as in `reconstruct_file`.
        output: The file to write. `audiovae.recordings.compressed_file` and `.latents_file` describe the two formats.
        overlap: As in `compress_recording`; for exact latents as in `encode_recording`, and None is a quarter.
        precision: Of exact latents, as in `encode_recording`.
        step: Of quantised latents, as in `compress_recording`.

    Returns:
        The latents that were written.

    Raises:
        ModelError: if a file cannot be read or written, or the output is the source itself.
    """
    check_overlap(overlap or 0.0)
    check_apart(output, source)
    check_encoded_file(output)
    with _beside(model, source, output) as recording:
        whole = recording.at(model.level)
        if Path(output).suffix == SUFFIX:
            few = compressed(model, whole, step, overlap)
            write_compressed(output, few)
            return few
        exact = encoded(model, whole, EXACT_OVERLAP if overlap is None else overlap, precision)
        write_latents(output, exact)
        return exact


def decode_file(model: Autoencoder, source: str | Path, output: str | Path) -> CodedRecording | CompressedRecording:
    """Decodes the latents of a recording to a WAV file; from exact latents, the one that `reconstruct_file` writes.

    Args:
        model: The model that encoded the recording, in evaluation mode.
        source: A file that `encode_file` wrote, of either format.
        output: The 16-bit WAV file to write, with the model's rate and channels.

    Returns:
        The latents that were read.

    Raises:
        ModelError: if the file is damaged or from another model, cannot be read or written, or is the output itself.
    """
    check_apart(output, source)
    check_wav(output)
    coded = read_compressed(source) if is_compressed(source) else read_latents(source)
    check_length(output, coded.length, model.audio_channels)
    try:
        if isinstance(coded, CompressedRecording):
            pieces = decompressed(model, coded)
        else:
            pieces = decoded(model, coded)
    except ModelError as error:
        raise ModelError(f"{source}: {error}") from None
    _write(model, output, pieces, coded.length)
    return coded


def check_encoded_file(path: str | Path) -> None:
    """Raises ModelError if the name of an output file ends in neither .coded nor .safetensors, or it cannot be written.

    The ending chooses the format.
    """
    if Path(path).suffix == SUFFIX:
        check_compressed_file(path)
    else:
        check_latents_file(path)
