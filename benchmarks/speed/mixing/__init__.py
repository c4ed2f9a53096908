"""Shuffling quality: how well readers mix the chunks of recordings.

May import `shards` and `benchmarks.speed.support`.
"""
