"""Yardsticks: what other codes make of the same held-out passages, and measures that model hearing.

May import `train.evaluation.measuring`, `train.parallel` and `train.errors`.
"""
