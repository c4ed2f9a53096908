"""Learned priors: models of the latents of whole recordings, from which new recordings are drawn.

May import `audiovae.layers`, `audiovae.models.settings` and the files of `audiovae` itself.
"""
