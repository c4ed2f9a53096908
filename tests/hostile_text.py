"""Text of a stranger on its way to a terminal."""

from shards.text import JOINERS


def harmless(text: str) -> str:
    """The text, which holds no character that a terminal obeys."""
    assert {c for c in text if not (c.isprintable() or c in JOINERS or c == "\n")} == set()
    return text
