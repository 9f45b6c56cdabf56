"""Addresses in settings: one, or several, and how they are written."""

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
        raise ValueError(f"{value!r}: this is <host>:<port> alone, without a carrier")
    return _address(value)


Address = Annotated[str, AfterValidator(_address)]
"""``host:port``, or ``wss://`` or ``quic+wss://`` in front of it; port 0 takes a free one."""
Place = Annotated[str, AfterValidator(_place)]
"""``host:port`` of something else than peers' carriers."""


def _listed(value: Any) -> Any:
    """A list given as text: JSON, or addresses with commas between them."""
    if not isinstance(value, str):
        return value
    text = value.strip()
    if text.startswith("[") and text.endswith("]"):  # `[::1]:7450` ends with its port
        try:
            return json.loads(value)
        except ValueError as error:
            raise ValueError(f"{value!r} is no JSON list") from error
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
"""DNS names; as text with commas between them."""
Addresses = Annotated[
    tuple[Address, ...], NoDecode, BeforeValidator(_listed), Field(min_length=1, max_length=256)
]
"""One or several; as text with commas between them."""
