"""The one exception that is meant for people rather than for programmers."""

from shards.text import printable


class DataError(Exception):
    """Something about the data is wrong: one line that names the file or flag and the remedy."""

    def __str__(self) -> str:
        """The line; what came from files in it is printable."""
        return printable(super().__str__())
