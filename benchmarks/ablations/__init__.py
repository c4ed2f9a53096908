"""The preset vae_tiny with one change of its losses or layers at a time, in one table with the preset.

May import the three packages and `trials`.
"""
