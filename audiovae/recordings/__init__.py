"""Encoding and decoding of whole recordings: audio files, overlap-add, latents and their files.

May import `audiovae.models`, `audiovae.saved`, `audiovae.streaming` and `audiovae.priors.latents`.
"""
