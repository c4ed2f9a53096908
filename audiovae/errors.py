"""The error and the warning of this package."""

from shards.text import printable


class ModelError(Exception):
    """A model, a file or a setting cannot be used. The message is one line that names it and the remedy."""

    def __str__(self) -> str:
        """The line; what came from files in it is printable."""
        return printable(super().__str__())


class ModelWarning(UserWarning):
    """A result differs from what the user may expect. The message is one line; the commands print it to stderr."""

    def __str__(self) -> str:
        """The line; what came from files in it is printable."""
        return printable(super().__str__())
