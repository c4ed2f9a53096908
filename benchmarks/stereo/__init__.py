"""Stereo: a stereo model and mono models on both sides, measured on the same recordings.

May import `shards`, `audiovae` and `train`.
"""
