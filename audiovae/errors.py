"""The error that people read."""


class ModelError(Exception):
    """A model, a file or a setting that cannot be used; one line that names it and the remedy."""
