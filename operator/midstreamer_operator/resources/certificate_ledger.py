"""Entries of the ledger of certificates: ConfigMaps that are written once and never changed.

The name of an entry contains the uid of its signing request, so each request has one entry at most.
When two replicas sign the same request, the API server rejects the second entry, and that replica
reads the first.  An entry holds the certificate itself, so that both hand out the same certificate.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import msgspec

from midstreamer.domain.errors import BadInput

LABEL = "midstreamer.dev/ledger"
"""Label of every entry; its value is the release."""
HOLDER = "midstreamer.dev/holder"
"""Label whose value is the hash of an entry's identity; entries of earlier versions lack it."""
HOLDER_CHARACTERS = 40
"""Number of hexadecimal characters of an identity's hash in the label `HOLDER`. The value of a
label may have 63 characters at most."""


class Entry(msgspec.Struct, frozen=True, rename="camel"):
    """A certificate that was handed out, or is about to be."""

    serial: str
    """Serial number of the certificate, hexadecimal."""
    key_hash: str
    """SHA-256 of the public key (its SubjectPublicKeyInfo), hexadecimal."""
    id: str
    """Identity of the holder: the URI in the certificate."""
    authority: str
    """SHA-256 of the certificate of the authority that signed, hexadecimal."""
    ends: str
    """When the certificate expires, in seconds since 1970, as text."""
    request: str
    """Name of the signing request that the certificate answers."""
    certificate: str
    """The certificate, followed by intermediate certificates, as PEM."""

    @property
    def ends_s(self) -> float:
        """When the certificate expires, in seconds since 1970."""
        return float(self.ends)


def name(release: str, request_uid: str) -> str:
    """Return the name of the ConfigMap with the entry for a request."""
    return f"{_prefix(release)}{request_uid}"


def request_uid(release: str, given: Mapping[str, Any]) -> str:
    """Return the uid of the request that the entry in a ConfigMap answers."""
    named = str((given.get("metadata") or {}).get("name") or "")
    return named.removeprefix(_prefix(release))


def selector(release: str, uri: str = "") -> str:
    """Return the label selector of an installation's entries, or of one identity's entries."""
    return f"{LABEL}={release}" + (f",{HOLDER}={holder(uri)}" if uri else "")


def holder(uri: str) -> str:
    """Return the value of label `HOLDER` for an identity: a hash, as a label cannot be a URI."""
    return hashlib.sha256(uri.encode()).hexdigest()[:HOLDER_CHARACTERS]


def written(release: str, request_uid: str, entry: Entry) -> dict[str, Any]:
    """Return the ConfigMap of an entry."""
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
    """Read the entry in a ConfigMap; raise BadInput when the ConfigMap holds no entry."""
    try:
        entry = msgspec.convert(given.get("data") or {}, Entry)
        float(entry.ends)
    except (msgspec.ValidationError, ValueError) as error:
        named = (given.get("metadata") or {}).get("name")
        raise BadInput(
            f"ConfigMap {named} has the label of the ledger but is no entry ({error}); delete the"
            " ConfigMap if nobody needs it"
        ) from error
    return entry


def _prefix(release: str) -> str:
    return f"{release}-issued-"
