"""The adversarial phase of a run: the model from before it, measured and heard beside the model from after it.

May import `train.evaluation.measuring`, `yardsticks`, `statistics` and `report`, `train.parallel` and `train.runs`.
"""
