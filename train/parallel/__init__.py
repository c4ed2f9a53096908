"""The processes of a run and the model they hold: whole in each (DDP) or sharded (ZeRO).

May import `train.config`, `train.optim` and `train.errors`.
"""
