"""Training: settings, processes, the loop, checkpoints, tracking, evaluation.

May import `shards` and `audiovae`. Each room says in its `__init__.py` what lives there and what it may import.
"""

DISTRIBUTION = "audio-autoencoder-training"
