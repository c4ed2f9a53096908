"""The one kind of error that is the user's to mend."""


class TrainError(Exception):
    """One line that names the file, key or flag and the remedy."""


class TransientError(TrainError):
    """Something outside that may be well again later: the same command may go on then."""


class LostPeerError(TransientError):
    """Another process of the run has ended; it, or nobody, knows why."""
