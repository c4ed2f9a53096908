"""Evaluating and comparing trained runs.

May import `train.runs`, `train.parallel` and `train.config`.
"""
