"""Whole recordings through a model: audio files, overlap-add, latents and their files.

May import `audiovae.models` and `audiovae.saved`.
"""
