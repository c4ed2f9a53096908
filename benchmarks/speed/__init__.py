"""Benchmarks of data loading, shuffling and checkpoints, compared with other libraries.

May import the three packages.
"""
