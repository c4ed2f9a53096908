"""Report pages of one or several runs: self-contained HTML files that need no network and no server.

May import `train.evaluation.measuring`, `train.evaluation.drawing` and `train.runs`.
"""
