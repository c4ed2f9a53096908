"""The processes of a run and the model they train: replicated on each (DDP) or sharded over them (ZeRO).

May import `shards`, `train.config`, `train.adversarial`, `train.optim` and `train.errors`.
"""
