"""Types of settings that hold network addresses or host names, and how their text is parsed."""

from __future__ import annotations

import json
import re
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field
from pydantic_settings import NoDecode

from midstreamer.domain.errors import ConfigError
from midstreamer.transport import address

_LABEL = r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_HOST_NAME = re.compile(rf"(?=.{{1,253}}\Z){_LABEL}(\.{_LABEL})*")


def _address(value: str) -> str:
    try:
        return str(address.parse(value))
    except ConfigError as error:
        raise ValueError(f"{error.message}, port 0 to 65535 (0: any free port)") from error


def _place(value: str) -> str:
    if "://" in value:
        raise ValueError(f"{value!r} must be <host>:<port>, without a carrier in front")
    return _address(value)


Address = Annotated[str, AfterValidator(_address)]
"""``host:port`` of a peer; port 0 takes a free port. Without a prefix the carrier is QUIC. The
prefix ``wss://`` means WebSocket, and ``quic+wss://`` means both carriers."""
Place = Annotated[str, AfterValidator(_place)]
"""``host:port`` without a carrier, for anything that is not a peer, such as the metrics port."""


def _listed(value: Any) -> Any:
    """Parse a list given as text: a JSON list, or values separated by commas."""
    if not isinstance(value, str):
        return value
    text = value.strip()
    # Only a JSON list ends with "]": an IPv6 address such as "[::1]:443" ends with its port.
    if text.startswith("[") and text.endswith("]"):
        try:
            return json.loads(value)
        except ValueError as error:
            raise ValueError(
                f"{value!r} is not a valid JSON list; write one, or values separated by commas"
            ) from error
    return [part.strip() for part in value.split(",")]


def _host_name(value: str) -> str:
    if not _HOST_NAME.fullmatch(value):
        raise ValueError(f"{value!r} is no DNS name: letters, digits, '-' and '.', at most 253")
    return value


HostNames = Annotated[
    tuple[Annotated[str, AfterValidator(_host_name)], ...],
    NoDecode,
    BeforeValidator(_listed),
    Field(min_length=1, max_length=32),
]
"""DNS names, 1 to 32; as text they are separated by commas."""
Addresses = Annotated[
    tuple[Address, ...], NoDecode, BeforeValidator(_listed), Field(min_length=1, max_length=256)
]
"""Addresses of peers, 1 to 256; as text they are separated by commas."""
