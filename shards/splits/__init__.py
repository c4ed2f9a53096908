"""Splits: which recordings are for training, and which are held out. Pure functions, and the files that say it.

May import the shared modules of `shards`; imports nothing of `shards.building` and `shards.reading`.
"""
