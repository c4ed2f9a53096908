"""Causal models on audio that is still coming in: blocks of any size, with a state that is explicit.

May import `audiovae.layers` and `audiovae.models`.
"""
