"""Models on disk: folders of safetensors and JSON, checksums, exported programs.

May import `audiovae.models`, `audiovae.priors` and `audiovae.streaming`.
"""
