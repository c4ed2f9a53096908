"""The trunks of other codecs in our VAE, and classical codecs, in one table.

May import the three packages and `trials`.
"""
