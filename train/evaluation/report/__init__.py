"""Pages to judge runs by: one self-contained HTML file each, which needs no network and no server.

May import `train.evaluation.measuring`, `train.evaluation.drawing` and `train.runs`.
"""
