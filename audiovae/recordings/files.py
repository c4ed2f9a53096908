"""Whole files through a model."""

from pathlib import Path

from audiovae.errors import ModelError
from audiovae.models.autoencoder import Autoencoder
from audiovae.output import check_apart
from audiovae.recordings.audio_file import check_wav, read_recording, write_recording
from audiovae.recordings.latents import CodedRecording, Precision, decode_recording, encode_recording
from audiovae.recordings.latents_file import check_latents_file, read_latents, write_latents
from audiovae.recordings.overlap_add import reconstruct_recording


def reconstruct_file(model: Autoencoder, source: str | Path, output: str | Path, overlap: float = 0.25) -> float:
    """Passes a recording through the model.

    Args:
        model: In evaluation mode.
        source: A recording of any format that libsndfile reads, any rate, length and number of channels.
        output: The 16-bit WAV file to write, mono at the model's rate.
        overlap: As in `reconstruct_recording`.

    Returns:
        Seconds of audio.

    Raises:
        ModelError: when a file cannot be read or written, or the output is the source itself.
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
    """Writes a recording's latents, see `audiovae.recordings.latents_file`.

    Args:
        model: In evaluation mode.
        source: A recording, as in `reconstruct_file`.
        output: The .safetensors file to write.
        overlap, precision: As in `encode_recording`.

    Returns:
        What was written.

    Raises:
        ModelError: when a file cannot be read or written, or the output is the source itself.
    """
    check_apart(output, source)
    check_latents_file(output)
    coded = encode_recording(model, read_recording(source, model.rate), overlap, precision)
    write_latents(output, coded)
    return coded


def decode_file(model: Autoencoder, source: str | Path, output: str | Path) -> CodedRecording:
    """Makes a WAV file from a recording's latents: what `reconstruct_file` would have made of the recording.

    Args:
        model: The one that encoded, in evaluation mode.
        source: A file of `encode_file`.
        output: The 16-bit WAV file to write, mono at the model's rate.

    Returns:
        What was read.

    Raises:
        ModelError: when the file is damaged or of another model, or cannot be read or written, or the output is
            the source itself.
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
