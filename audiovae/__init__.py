"""Three families of audio autoencoders: VAE, hierarchical VAE and VQ-VAE.

model = audiovae.load("runs/hvae")
latents = model.encode(audio)      # audio: [B, 1, samples] in [-1, 1]
audio = model.decode(latents)
audiovae.reconstruct_file(model, "song.flac", "song-out.wav")
"""

import warnings
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from audiovae.errors import ModelError, ModelWarning
from audiovae.facts import Facts
from audiovae.layers.noise import Noise
from audiovae.models.autoencoder import Autoencoder
from audiovae.models.families import FAMILIES, build
from audiovae.priors.prior import Prior
from audiovae.recordings.audio_file import as_recording, read_recording, write_recording
from audiovae.recordings.compressed import compress_recording, decompress_recording, stored_numbers
from audiovae.recordings.compressed_file import CompressedRecording, read_compressed, write_compressed
from audiovae.recordings.files import Streamed, decode_file, encode_file, reconstruct_file, stream_file
from audiovae.recordings.generated import generate_recordings
from audiovae.recordings.latents import CodedRecording, decode_recording, encode_recording
from audiovae.recordings.latents_file import read_latents, write_latents
from audiovae.recordings.overlap_add import interpolate_recordings, sample_chunks
from audiovae.recordings.reconstruction import reconstruct_recording
from audiovae.results import Latents, Output, Partial, Statistics
from audiovae.saved.model_folder import add_measures, fingerprint, load, save, save_with_card
from audiovae.saved.prior_folder import load_prior
from audiovae.streaming.stream import Stream, StreamState, stream

DISTRIBUTION = "audio-autoencoder-training"
try:
    __version__ = version(DISTRIBUTION)
except PackageNotFoundError:  # a copy that pip has not installed
    __version__ = "unknown"

__all__ = [
    "FAMILIES",
    "Autoencoder",
    "CodedRecording",
    "CompressedRecording",
    "Facts",
    "Latents",
    "ModelError",
    "ModelWarning",
    "Noise",
    "Output",
    "Partial",
    "Prior",
    "Statistics",
    "Stream",
    "StreamState",
    "Streamed",
    "add_measures",
    "as_recording",
    "build",
    "compress_recording",
    "decode_file",
    "decode_recording",
    "decompress_recording",
    "encode_file",
    "encode_recording",
    "fingerprint",
    "from_pretrained",
    "generate_recordings",
    "interpolate_recordings",
    "load",
    "load_prior",
    "read_compressed",
    "read_latents",
    "read_recording",
    "reconstruct_file",
    "reconstruct_recording",
    "sample_chunks",
    "save",
    "stored_numbers",
    "stream",
    "stream_file",
    "write_compressed",
    "write_latents",
    "write_recording",
]

# `save_pretrained` and `from_pretrained` are methods of the base class, which cannot import functions that know every
# family. It gets them here, where the package is assembled.
Autoencoder.folder_writer, Autoencoder.folder_reader = staticmethod(save_with_card), staticmethod(load)
from_pretrained = Autoencoder.from_pretrained

# Names of version 0.1, accepted with a warning.
_RENAMED = {"Coded": "CodedRecording", "read_coded": "read_latents", "write_coded": "write_latents"}


def __getattr__(name: str) -> Any:
    if name not in _RENAMED:
        raise AttributeError(f"module 'audiovae' has no attribute {name!r}")
    warnings.warn(f"audiovae.{name} is now audiovae.{_RENAMED[name]}", DeprecationWarning, stacklevel=2)
    return globals()[_RENAMED[name]]
