"""Measures of a model on a split, by all processes: chunks, recordings, latents, tables.

May import `train.parallel`, `train.runs` and `train.evaluation.statistics`.
"""
