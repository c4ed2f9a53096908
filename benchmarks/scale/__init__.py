"""The cluster on paper: the reader's true arithmetic for many ranks, start-up, checkpoints, goodput.

May import `benchmarks.results`, `shards` and `train`.
"""
