"""Models with a change that no setting makes, such as trunks and quantizers of other libraries.

May import the packages `audiovae` and `train`.
"""
