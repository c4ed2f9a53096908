"""One attempt at a run, from the preflight check to the last step. Start reading at loop.py.

May import every other room of `train` except `train.cli`.
"""
