"""Causal models on audio that is still coming in: streams, and programs that carry their state.

May import `audiovae.layers`, `audiovae.models` and `audiovae.saved`.
"""
