"""Our reader, upper bounds to compare it with, and the readers of other libraries.

May import `shards` and `benchmarks.speed.support`.
"""
