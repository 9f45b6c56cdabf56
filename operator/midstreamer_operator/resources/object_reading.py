"""Conversion of Kubernetes objects to structs, with errors that name the object."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec

from midstreamer.domain.errors import BadInput

T = TypeVar("T", bound=msgspec.Struct)


class Meta(msgspec.Struct, frozen=True, rename="camel"):
    """Metadata that every Kubernetes object has."""

    name: str = ""
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    generation: int = 0
    deletion_timestamp: str | None = None


def converted(given: Mapping[str, Any], kind: type[T], what: str) -> T:
    """Convert a Kubernetes object to the struct ``kind``; ignore fields that the struct lacks.

    Raise BadInput when a field has another type than in the struct; ``what`` names the kind of
    object in the message.
    """
    try:
        return msgspec.convert(given, kind)
    except msgspec.ValidationError as error:
        meta = given.get("metadata")
        name = meta.get("name") if isinstance(meta, Mapping) else None
        raise BadInput(f"{what} {name} cannot be read: {error}") from error
