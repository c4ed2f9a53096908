"""What becomes of a batch before the model takes it: windows of records at random places, and augmentation.

Imports `shards` and `audiovae.layers.noise`.
"""
