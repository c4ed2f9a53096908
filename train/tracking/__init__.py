"""Metrics and media of a run: metrics.jsonl is the complete record, and W&B receives a copy.

May import `train.runs` and `train.config`.
"""
