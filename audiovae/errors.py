"""The error and the warning of this package."""


class ModelError(Exception):
    """A model, a file or a setting cannot be used. The message is one line that names it and the remedy."""


class ModelWarning(UserWarning):
    """A result differs from what the user may expect. The message is one line; the commands print it to stderr."""
