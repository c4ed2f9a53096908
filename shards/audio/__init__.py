"""Audio files as samples: decoding, checks for truncation, mixing to mono, resampling, levels.

May import `shards.errors` only; imports no torch.
"""
