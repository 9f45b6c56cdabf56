"""Addresses in settings: one, or several, and how they are written."""

from __future__ import annotations

import json
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field
from pydantic_settings import NoDecode


def _address(value: str) -> str:
    host, colon, port = value.rpartition(":")
    if not (colon and host and port.isdigit() and int(port) <= 65535):
        raise ValueError(f"{value!r} is not <host>:<port>, port 0 to 65535 (0: any free port)")
    return value


Address = Annotated[str, AfterValidator(_address)]
"""``host:port``; port 0 takes a free one."""


def _listed(value: Any) -> Any:
    """A list given as text: JSON, or addresses with commas between them."""
    if not isinstance(value, str):
        return value
    if value.lstrip().startswith("["):
        try:
            return json.loads(value)
        except ValueError as error:
            raise ValueError(f"{value!r} is no JSON list of addresses") from error
    return [part.strip() for part in value.split(",")]


Addresses = Annotated[
    tuple[Address, ...], NoDecode, BeforeValidator(_listed), Field(min_length=1, max_length=256)
]
"""One or several; as text with commas between them."""
