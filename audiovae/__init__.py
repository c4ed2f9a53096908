"""Three families of audio autoencoders: VAE, hierarchical VAE and VQ-VAE.

model = audiovae.load("runs/hvae")
latents = model.encode(audio)      # audio: [B, 1, samples] in [-1, 1]
audio = model.decode(latents)
audiovae.reconstruct_file(model, "song.flac", "song-out.wav")
"""

from importlib.metadata import PackageNotFoundError, version

from audiovae.autoencoder import Autoencoder, Output, Partial, Statistics
from audiovae.card import Facts
from audiovae.coded import Coded, decode_recording, encode_recording
from audiovae.coded_file import read_coded, write_coded
from audiovae.errors import ModelError, ModelWarning
from audiovae.families import FAMILIES, build
from audiovae.files import decode_file, encode_file, reconstruct_file
from audiovae.noise import Noise
from audiovae.recordings import as_recording, read_recording, write_recording
from audiovae.weights import add_measures, fingerprint, from_pretrained, load, save
from audiovae.whole import interpolate_recordings, reconstruct_recording, sample_chunks

DISTRIBUTION = "audio-autoencoder-training"
try:
    __version__ = version(DISTRIBUTION)
except PackageNotFoundError:  # a copy that pip has not installed
    __version__ = "unknown"

__all__ = [
    "FAMILIES",
    "Autoencoder",
    "Coded",
    "Facts",
    "ModelError",
    "ModelWarning",
    "Noise",
    "Output",
    "Partial",
    "Statistics",
    "add_measures",
    "as_recording",
    "build",
    "decode_file",
    "decode_recording",
    "encode_file",
    "encode_recording",
    "fingerprint",
    "from_pretrained",
    "interpolate_recordings",
    "load",
    "read_coded",
    "read_recording",
    "reconstruct_file",
    "reconstruct_recording",
    "sample_chunks",
    "save",
    "write_coded",
    "write_recording",
]
