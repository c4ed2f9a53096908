"""Several data sets as one: how they are named, and which set each chunk of training is from.

Pure arithmetic and text. May import: shards.splitmix, shards.errors.
"""
