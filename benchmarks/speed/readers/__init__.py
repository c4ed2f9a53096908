"""Our reader, the limits it is measured against, and the readers of other libraries.

May import `shards` and `benchmarks.speed.support`.
"""
