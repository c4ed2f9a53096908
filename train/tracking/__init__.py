"""Metrics and media of a run: metrics.jsonl is the record, W&B follows it.

May import `train.runs` and `train.config`.
"""
