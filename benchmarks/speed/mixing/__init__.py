"""How well the orders of readers mix the chunks of recordings.

May import `shards` and `benchmarks.speed.support`.
"""
