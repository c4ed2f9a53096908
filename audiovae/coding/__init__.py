"""Entropy coding of integers: the coder and the adaptive tables of probabilities, in integers throughout.

May import nothing else from the package.
"""
