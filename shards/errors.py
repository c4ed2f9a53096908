"""The one exception that is meant for people rather than for programmers."""


class DataError(Exception):
    """Something about the data is wrong: one line that names the file or flag and the remedy."""
