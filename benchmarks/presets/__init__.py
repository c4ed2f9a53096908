"""Default presets beside the tiny ones on a CPU, after equal chunks.

May import the three packages and `trials`.
"""
