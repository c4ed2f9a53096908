"""The error and the warning that people read."""


class ModelError(Exception):
    """A model, a file or a setting that cannot be used; one line that names it and the remedy."""


class ModelWarning(UserWarning):
    """Something was done, but not as one may think; one line that names the file. The commands print it on stderr."""
