"""A Pod, as far as certificates are decided by it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from midstreamer_operator.resources.reading import Meta, converted

ENDED = ("Succeeded", "Failed")


class _Spec(msgspec.Struct, frozen=True, rename="camel"):
    service_account_name: str = ""


class _Status(msgspec.Struct, frozen=True):
    phase: str = ""


class _Object(msgspec.Struct, frozen=True):
    metadata: Meta = Meta()
    spec: _Spec = _Spec()
    status: _Status = _Status()


class Pod(msgspec.Struct, frozen=True):
    """A pod of our namespace."""

    name: str
    uid: str
    account: str
    is_going: bool = False
    """It is being deleted, or has ended."""


def read(given: Mapping[str, Any]) -> Pod:
    """A pod from the object that the API server gave."""
    made = converted(given, _Object, "pod")
    is_going = made.metadata.deletion_timestamp is not None or made.status.phase in ENDED
    account = made.spec.service_account_name
    return Pod(made.metadata.name, made.metadata.uid, account, is_going)
