"""Measures every claim about quality: trains models, baselines and seeds in one run.

May import the three packages.
"""
