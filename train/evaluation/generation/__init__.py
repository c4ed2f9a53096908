"""What a prior generates, measured against held-out recordings: distance, coherence, copies and diversity.

May import `train.evaluation.measuring`, `statistics`, `drawing` and `report`, `train.parallel` and `train.runs`.
"""
