"""Three families of audio autoencoders: VAE, hierarchical VAE and VQ-VAE.

model = audiovae.load("runs/hvae")
latents = model.encode(audio)      # audio: [B, 1, samples] in [-1, 1]
audio = model.decode(latents)
"""

from audiovae.autoencoder import Autoencoder, Output, Partial, Statistics
from audiovae.families import FAMILIES, build
from audiovae.noise import Noise
from audiovae.weights import ModelError, load, save
from audiovae.whole import interpolate_recordings, reconstruct_recording, sample_chunks

__all__ = [
    "FAMILIES",
    "Autoencoder",
    "ModelError",
    "Noise",
    "Output",
    "Partial",
    "Statistics",
    "build",
    "interpolate_recordings",
    "load",
    "reconstruct_recording",
    "sample_chunks",
    "save",
]
