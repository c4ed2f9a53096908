"""The adversarial phase: its settings, the discriminator and the losses of both sides.

May import `shards.files`.
"""
