"""Models on disk: folders of safetensors and JSON, checksums, exported programs.

May import `audiovae.models` and `audiovae.priors`.
"""
