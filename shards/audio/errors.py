"""Why a file gives no audio."""


class DecodingError(Exception):
    """The reason in a few words that begin with the kind: unreadable, truncated, empty, not finite."""

    @property
    def kind(self) -> str:
        """The word before the colon."""
        return str(self).partition(":")[0]

    @property
    def detail(self) -> str:
        """The words after the colon."""
        return str(self).partition(": ")[2]


def reason(error: Exception) -> str:
    """An exception of a decoder without the path that it repeats, as one line that begins with "unreadable"."""
    text = str(getattr(error, "error_string", "") or getattr(error, "strerror", "") or error)
    return "unreadable: " + " ".join(text.split()).removeprefix("Error : ").rstrip(".")
