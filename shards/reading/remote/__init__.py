"""Records of shards behind URLs: https, s3, gs and whatever fsspec opens.

May import the shared modules of `shards`.
"""
