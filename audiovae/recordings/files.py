"""Reconstructs, encodes and decodes whole files."""

from pathlib import Path

from audiovae.errors import ModelError
from audiovae.models.autoencoder import Autoencoder
from audiovae.output import check_apart
from audiovae.recordings.audio_file import check_wav, read_recording, write_recording
from audiovae.recordings.latents import CodedRecording, Precision, decode_recording, encode_recording
from audiovae.recordings.latents_file import check_latents_file, read_latents, write_latents
from audiovae.recordings.overlap_add import reconstruct_recording


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
    overlap: float = 0.25,
    precision: Precision = "float32",
) -> CodedRecording:
    """Writes the latents of a recording, see `audiovae.recordings.latents_file`.

    Args:
        model: A model in evaluation mode.
        source: A recording, as in `reconstruct_file`.
        output: The .safetensors file to write.
        overlap, precision: As in `encode_recording`.

    Returns:
        The latents that were written.

    Raises:
        ModelError: if a file cannot be read or written, or the output is the source itself.
    """
    check_apart(output, source)
    check_latents_file(output)
    coded = encode_recording(model, read_recording(source, model.rate), overlap, precision)
    write_latents(output, coded)
    return coded


def decode_file(model: Autoencoder, source: str | Path, output: str | Path) -> CodedRecording:
    """Decodes the latents of a recording to a WAV file, the same as `reconstruct_file` writes for the recording.

    Args:
        model: The model that encoded the recording, in evaluation mode.
        source: A file that `encode_file` wrote.
        output: The 16-bit WAV file to write, mono at the model's rate.

    Returns:
        The latents that were read.

    Raises:
        ModelError: if the file is damaged or from another model, cannot be read or written, or is the output itself.
    """
    check_apart(output, source)
    check_wav(output)
    coded = read_latents(source)
    try:
        audio = decode_recording(model, coded)
    except ModelError as error:
        raise ModelError(f"{source}: {error}") from None
    write_recording(output, audio, model.rate)
    return coded
