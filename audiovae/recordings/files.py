"""Reconstructs, encodes and decodes whole files."""

from pathlib import Path

from audiovae.errors import ModelError
from audiovae.models.autoencoder import Autoencoder
from audiovae.output import check_apart
from audiovae.recordings.audio_file import check_wav, read_recording, write_recording
from audiovae.recordings.compressed import STEP, compress_recording, decompress_recording
from audiovae.recordings.compressed_file import (
    SUFFIX,
    CompressedRecording,
    check_compressed_file,
    is_compressed,
    read_compressed,
    write_compressed,
)
from audiovae.recordings.latents import CodedRecording, Precision, decode_recording, encode_recording
from audiovae.recordings.latents_file import check_latents_file, read_latents, write_latents
from audiovae.recordings.overlap_add import reconstruct_recording

EXACT_OVERLAP = 0.25  # of exact latents, as of reconstructions


def reconstruct_file(model: Autoencoder, source: str | Path, output: str | Path, overlap: float = 0.25) -> float:
    """Encodes and decodes a recording with a model.

    Args:
        model: A model in evaluation mode.
        source: A recording in any format that libsndfile or FFmpeg read, any rate, length and channels.
        output: The 16-bit WAV file to write, mono at the model's rate.
        overlap: As in `reconstruct_recording`.

    Returns:
        The length in seconds.

    Raises:
        ModelError: if a file cannot be read or written, or the output is the source itself.
    """
    check_apart(output, source)
    check_wav(output)
    audio = reconstruct_recording(model, read_recording(source, model.rate), overlap)
    write_recording(output, audio, model.rate)
    return len(audio) / model.rate


def encode_file(
    model: Autoencoder,
    source: str | Path,
    output: str | Path,
    overlap: float | None = None,
    precision: Precision = "float32",
    step: float = STEP,
) -> CodedRecording | CompressedRecording:
    """Writes the latents of a recording: few bits to NAME.coded, or exact latents to NAME.safetensors.

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
    check_apart(output, source)
    check_encoded_file(output)
    if Path(output).suffix == SUFFIX:
        compressed = compress_recording(model, read_recording(source, model.rate), step, overlap)
        write_compressed(output, compressed)
        return compressed
    share = EXACT_OVERLAP if overlap is None else overlap
    coded = encode_recording(model, read_recording(source, model.rate), share, precision)
    write_latents(output, coded)
    return coded


def decode_file(model: Autoencoder, source: str | Path, output: str | Path) -> CodedRecording | CompressedRecording:
    """Decodes the latents of a recording to a WAV file; from exact latents, the one that `reconstruct_file` writes.

    Args:
        model: The model that encoded the recording, in evaluation mode.
        source: A file that `encode_file` wrote, of either format.
        output: The 16-bit WAV file to write, mono at the model's rate.

    Returns:
        The latents that were read.

    Raises:
        ModelError: if the file is damaged or from another model, cannot be read or written, or is the output itself.
    """
    check_apart(output, source)
    check_wav(output)
    coded = read_compressed(source) if is_compressed(source) else read_latents(source)
    try:
        if isinstance(coded, CompressedRecording):
            audio = decompress_recording(model, coded)
        else:
            audio = decode_recording(model, coded)
    except ModelError as error:
        raise ModelError(f"{source}: {error}") from None
    write_recording(output, audio, model.rate)
    return coded


def check_encoded_file(path: str | Path) -> None:
    """Raises ModelError if the name of an output file ends in neither .coded nor .safetensors, or it cannot be written.

    The ending chooses the format.
    """
    if Path(path).suffix == SUFFIX:
        check_compressed_file(path)
    else:
        check_latents_file(path)
