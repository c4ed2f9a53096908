"""Charts and spectrograms, as SVG and PNG.

Imports nothing else of `train`.
"""
