"""The preflight check: what would fail in an hour fails before the first step, in one line.

May import what `train.training` may, and from it `context` and `learner`.
"""
