"""`python -m train encode`: the latents of a data set as a data set, which priors learn from.

May import `train.runs` and `train.parallel`.
"""
