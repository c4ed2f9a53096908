"""How well a run uses its devices: model FLOPs utilisation, memory, device hours, and a profile of three steps.

May import `train.parallel`, `train.optim`, `train.errors` and `audiovae`.
"""
