"""Errors that a command reports in one line, without a traceback."""


class TrainError(Exception):
    """An error whose message is one line that names the file, key or flag, and the remedy."""


class TransientError(TrainError):
    """A problem outside the program that may pass: the same command may succeed later."""


class LostPeerError(TransientError):
    """Another process of the run has ended; the reason, if any, is in that process's output."""
