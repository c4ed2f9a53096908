"""The evaluation on held-out chunks while training: measures, scores of the discriminator, examples.

May import what `train.training` may, and from it `context`, `learner` and `meter`.
"""
