"""Reasons as connections carry them: ``code: message``, short enough for the packet they end in."""

from __future__ import annotations

import re

_CODED = re.compile(r"(?P<code>[a-z_]{3,40}): (?P<message>.*)", re.DOTALL)


def coded(code: str, message: str) -> str:
    """One text of both; empty without a code."""
    return f"{code}: {message}" if code else ""


def read(text: str) -> tuple[str, str] | None:
    """Code and message of a text that carries both; None of any other."""
    found = _CODED.fullmatch(text)
    return (found["code"], found["message"]) if found else None


def cut(text: str, bytes_max: int) -> str:
    """As much of a text as fits into so many bytes of UTF-8."""
    return text.encode(errors="replace")[:bytes_max].decode(errors="ignore")
