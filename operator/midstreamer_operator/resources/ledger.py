"""One entry of the ledger of certificates: a ConfigMap that is written once and never changed.

An entry is named by the signing request that it answers.  So whoever signs, however often, makes
one entry for each request: the second to write is refused by the API server and reads what the
first wrote.  The certificate itself stands in it, so that whoever goes on hands out that very one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import msgspec

from midstreamer.domain.errors import BadInput

LABEL = "midstreamer.dev/ledger"
HOLDER = "midstreamer.dev/holder"
"""Label that finds the entries of one identity; entries of earlier versions have none."""
HOLDER_CHARACTERS = 40


class Entry(msgspec.Struct, frozen=True, rename="camel"):
    """A certificate that was given out, or is about to be."""

    serial: str
    """Hexadecimal."""
    key_hash: str
    """SHA-256 of the public key (its SubjectPublicKeyInfo), hexadecimal."""
    id: str
    """The URI in the certificate."""
    authority: str
    """SHA-256 of the certificate of the authority that signed, hexadecimal."""
    ends: str
    """When it expires, in seconds since 1970."""
    request: str
    """Name of the signing request that it answers."""
    certificate: str
    """The certificate and the intermediates behind it, as PEM."""

    @property
    def ends_s(self) -> float:
        """When it expires, in seconds since 1970."""
        return float(self.ends)


def name(release: str, request_uid: str) -> str:
    """The name of the entry for a request."""
    return f"{_prefix(release)}{request_uid}"


def request_uid(release: str, given: Mapping[str, Any]) -> str:
    """The uid of the request that the entry in a ConfigMap answers."""
    named = str((given.get("metadata") or {}).get("name") or "")
    return named.removeprefix(_prefix(release))


def selector(release: str, uri: str = "") -> str:
    """The label selector of all entries of an installation, or of those of one identity."""
    return f"{LABEL}={release}" + (f",{HOLDER}={holder(uri)}" if uri else "")


def holder(uri: str) -> str:
    """An identity as the value of a label, which may be no URI."""
    return hashlib.sha256(uri.encode()).hexdigest()[:HOLDER_CHARACTERS]


def written(release: str, request_uid: str, entry: Entry) -> dict[str, Any]:
    """The ConfigMap of an entry."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": name(release, request_uid),
            "labels": {LABEL: release, HOLDER: holder(entry.id)},
        },
        "immutable": True,
        "data": msgspec.to_builtins(entry),
    }


def read(given: Mapping[str, Any]) -> Entry:
    """The entry in a ConfigMap; BadInput when somebody else wrote it."""
    try:
        entry = msgspec.convert(given.get("data") or {}, Entry)
        float(entry.ends)
    except (msgspec.ValidationError, ValueError) as error:
        named = (given.get("metadata") or {}).get("name")
        raise BadInput(
            f"ConfigMap {named} is no entry of the ledger ({error}); delete it if nobody needs it"
        ) from error
    return entry


def _prefix(release: str) -> str:
    return f"{release}-issued-"
