"""Encoding and decoding of whole recordings: audio files, overlap-add, latents and their files.

May import `audiovae.models` and `audiovae.saved`.
"""
