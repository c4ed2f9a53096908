"""Shared parts of the speed benchmarks: data, rows, trials in separate processes, short trainings.

May import `shards`.
"""
