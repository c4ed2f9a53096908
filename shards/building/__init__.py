"""Building: recordings -> shards.

May import `shards.audio` and the shared modules of `shards`; imports no torch and nothing of `shards.reading`.
"""
