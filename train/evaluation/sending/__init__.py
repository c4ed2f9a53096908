"""Quality and rate of what is sent: draws from the posterior, and files of whole recordings.

May import `train.evaluation.measuring`, `train.parallel` and `audiovae`.
"""
