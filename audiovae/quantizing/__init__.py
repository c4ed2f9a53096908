"""Vector quantization: codebooks, commitment, the straight-through estimator.

May import `audiovae.layers` and `audiovae.results`.
"""
