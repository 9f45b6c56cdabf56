"""Objects of the API server as structs; what does not fit is named."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec

from midstreamer.domain.errors import BadInput

T = TypeVar("T", bound=msgspec.Struct)


class Meta(msgspec.Struct, frozen=True, rename="camel"):
    """What every object has."""

    name: str = ""
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    generation: int = 0
    deletion_timestamp: str | None = None


def converted(given: Mapping[str, Any], kind: type[T], what: str) -> T:
    """The parts of an object that ``kind`` names; BadInput when one is of another type."""
    try:
        return msgspec.convert(given, kind)
    except msgspec.ValidationError as error:
        meta = given.get("metadata")
        name = meta.get("name") if isinstance(meta, Mapping) else None
        raise BadInput(f"{what} {name} cannot be read: {error}") from error
