"""Which of two decoders is believed, and what is said about the length of a recording. Pure functions."""

from dataclasses import dataclass

from shards.audio.errors import DecodingError

# Seconds that may be missing without a word: encoders pad the end of a recording.
PADDING_S = 0.15
# A recording of which less is there is refused: somebody copied a part of it. A little under the half, since a file
# that is cut in half holds a little less than half of the audio.
LEAST = 0.45

# Kinds of notes on recordings that are as good as others.
HARMLESS = ("silent", "clipped", "click", "divided", "held out", "channels")


@dataclass(frozen=True)
class Heard:
    """What one decoder gave.

    Attributes:
        seconds: Of audio.
        problem: Why it ended before the end of the file, as the words of a DecodingError; empty when it did not.
    """

    seconds: float
    problem: str = ""


def first_is_believed(first: Heard, second: Heard) -> bool:
    """Whether the first decoder is believed: unless the second gives more, or as much without a problem."""
    if abs(first.seconds - second.seconds) <= PADDING_S:
        return not first.problem or bool(second.problem)
    return first.seconds > second.seconds


def is_serious(note: str) -> bool:
    """Whether a note on a recording says that a part of it is lost, or that it may not be sound that anybody wants."""
    return any(part and not part.startswith(HARMLESS) for part in note.split("; "))


def judged(promised: float | None, heard: Heard, exact: bool = False) -> str:
    """A note on the length of a recording; empty when all of it is there.

    Args:
        promised: Seconds that the file announces; None when it announces none.
        heard: What the decoder gave that is believed; with the problem of either decoder.
        exact: Whether the announced length is exact, as in WAV and FLAC.

    Raises:
        DecodingError: when nothing is there, or less than half of what the file announces.
    """
    if not heard.seconds:
        raise DecodingError(heard.problem or "empty: it has no samples")
    if promised is None:
        return f"damaged: it cannot be decoded after {heard.seconds:.2f} s" if heard.problem else ""
    if heard.seconds < LEAST * promised:
        raise DecodingError(f"truncated or damaged: only {heard.seconds:.2f} of {promised:.2f} s")
    if heard.seconds >= promised - (1e-6 if exact or heard.problem else PADDING_S):
        return ""
    return f"truncated or damaged: {heard.seconds:.2f} of {promised:.2f} s"
