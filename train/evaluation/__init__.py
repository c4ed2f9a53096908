"""Evaluation and comparison of trained runs.

May import `train.runs`, `train.parallel` and `train.config`.
"""
