"""The label of a Namespace that lets its pods be clients of an installation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from midstreamer.cluster import kubernetes_names
from midstreamer_operator.resources.object_reading import converted


class _Meta(msgspec.Struct, frozen=True):
    name: str = ""
    labels: dict[str, str] | None = None


class _Object(msgspec.Struct, frozen=True):
    metadata: _Meta = _Meta()


def has_clients(given: Mapping[str, Any], namespace: str, release: str) -> bool:
    """Return whether pods of this Namespace may be clients of an installation.

    Raise BadInput when ``given`` is no Namespace.
    """
    labels = converted(given, _Object, "namespace").metadata.labels or {}
    return labels.get(kubernetes_names.client_label(namespace, release)) == kubernetes_names.CLIENT
