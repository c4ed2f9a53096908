"""What models cost: a step of the adversarial phase, and drawing recordings from a prior.

May import `audiovae`, `train`, `shards` and `benchmarks.speed.support`.
"""
