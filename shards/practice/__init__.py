"""Small synthetic recordings to try everything with.

May import `shards.errors`, `shards.progress` and `shards.audio`.
"""
