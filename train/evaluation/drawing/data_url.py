"""Data URLs: bytes embedded in a page."""

import base64


def data_url(kind: str, content: bytes) -> str:
    """Encodes bytes of a media type as a `data:` URL."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
