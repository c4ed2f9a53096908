"""Every claim about quality, measured again: models, baselines and seeds in one run.

May import the three packages.
"""
