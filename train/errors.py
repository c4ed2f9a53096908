"""Errors that a command reports in one line, without a traceback."""

from shards.text import printable_lines


class TrainError(Exception):
    """An error whose message is one line that names the file, key or flag, and the remedy."""

    def __str__(self) -> str:
        """The message; what came from files in it is printable."""
        return printable_lines(super().__str__())


class TransientError(TrainError):
    """A problem outside the program that may pass: the same command may succeed later."""


class LaunchError(TrainError):
    """The environment promises other processes that do not come, so that no other process prints the error."""


class LostPeerError(TransientError):
    """Another process of the run has ended; the reason, if any, is in that process's output."""
