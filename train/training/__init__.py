"""One attempt at a run, from the preflight check to the last step: attempt, loop, learner.

May import every other room of `train` but `train.cli`.
"""
