"""Bytes inside a page."""

import base64


def data_url(kind: str, content: bytes) -> str:
    """Content of a media type as a `data:` URL, which needs no file."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
