"""Several data sets as one: how they are named, their joined manifest, and which set each chunk of training is from.

Pure arithmetic and text. May import: shards.manifest, shards.splitmix, shards.errors.
"""
