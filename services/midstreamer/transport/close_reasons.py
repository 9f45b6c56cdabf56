"""Text form of a reason for closing a connection, ``code: message``, cut to fit one packet."""

from __future__ import annotations

import re

_CODED = re.compile(r"(?P<code>[a-z_]{3,40}): (?P<message>.*)", re.DOTALL)


def coded(code: str, message: str) -> str:
    """Join a code and a message to one text. Without a code the text is empty."""
    return f"{code}: {message}" if code else ""


def read(text: str) -> tuple[str, str] | None:
    """Split a text made by `coded` into code and message. None for any other text."""
    found = _CODED.fullmatch(text)
    return (found["code"], found["message"]) if found else None


def cut(text: str, bytes_max: int) -> str:
    """Return the longest beginning of a text that fits into ``bytes_max`` bytes of UTF-8."""
    return text.encode(errors="replace")[:bytes_max].decode(errors="ignore")
