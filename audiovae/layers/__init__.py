"""Parts of every model: the trunk, representations, losses, spectra, Gaussians, keyed noise.

May import nothing else from the package.
"""
