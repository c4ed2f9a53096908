"""Where records come from: memory, local files, a node's cache. Remote records are in `shards.reading.remote`.

May import the shared modules of `shards`.
"""
