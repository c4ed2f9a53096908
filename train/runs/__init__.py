"""A run on disk: its folder, checkpoints, status, and the decision to requeue a job.

May import `train.config`, `train.optim` and `train.errors`. Keep this file free of imports: the requeue decision
runs on the standard library alone, in the last seconds of a job.
"""
