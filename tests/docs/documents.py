"""The documents as the tests of this folder read them."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def blocks(text: str, language: str = "sh") -> list[str]:
    """The code blocks of a language."""
    return [content for name, content in BLOCK.findall(text) if name == language]


def prose(text: str) -> str:
    """A document without its code blocks."""
    return BLOCK.sub("", text)


def quoted(text: str) -> list[str]:
    """What stands in backticks outside of code blocks."""
    return [" ".join(words.split()) for words in re.findall(r"`([^`]+)`", prose(text))]


def commands(block: str) -> list[str]:
    """The lines of a block, joined where they go on, without comments."""
    lines = block.replace("\\\n", " ").splitlines()
    return [line for line in (re.sub(r"(^|\s)#.*", "", line).strip() for line in lines) if line]


def anchors(text: str) -> set[str]:
    """The anchors of a document's headings, as GitHub makes them."""
    found: set[str] = set()
    for heading in re.findall(r"^#+ (.+?)\s*$", prose(text), re.MULTILINE):
        words = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        base = anchor = re.sub(r"[^\w\- ]", "", words).replace(" ", "-")
        number = 0
        while anchor in found:
            number += 1
            anchor = f"{base}-{number}"
        found.add(anchor)
    return found
