"""Measures of sets of sounds: windows as vectors, their distances by kernel, coherence, diversity, and copies.

May import `train.evaluation.measuring` and `statistics`.
"""
