"""Identities of peers: one URI each, ``spiffe://<trust domain>/<kind>/<id>``.

The id may have several parts, separated by slashes; in a cluster it is ``<namespace>/<pod>/<uid>``.
Of the parts that are not UIDs, the last one is the label of the identity: here ``<pod>``. The
common name of a certificate must repeat the label. This module does not read certificates:
`security.certificate_chain` does, and returns an Identity.
"""

from __future__ import annotations

import re
from enum import StrEnum

import msgspec

from midstreamer.domain.errors import BadInput, quoted

_PART = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}\Z")
_UID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\Z")
PARTS_MAX = 4
"""Maximum parts of an id."""
URI_CHARACTERS_MAX = 255
"""Longest identity URI, in characters."""


class Kind(StrEnum):
    """The kind of a peer. A client verifies a server by its kind, never by its host name."""

    COORDINATOR = "coordinator"
    AGENT = "agent"
    SYNC = "sync"
    CLIENT = "client"
    OPERATOR = "operator"
    POSTGRES = "postgres"
    """The PostgreSQL server. It shows a certificate to sync, and it never sends frames."""


class Identity(msgspec.Struct, frozen=True, order=True):
    """A certified name. No two processes share one, and a restarted process keeps its name."""

    trust_domain: str
    kind: Kind
    id: str

    @property
    def uri(self) -> str:
        """The URI in the subject alternative name of this identity's certificate."""
        return f"spiffe://{self.trust_domain}/{self.kind}/{self.id}"

    @property
    def name(self) -> str:
        """``<kind>/<id>``: the name used in allowlists, logs and messages."""
        return f"{self.kind}/{self.id}"

    @property
    def label(self) -> str:
        """The part of the id that is also the common name of the certificate.

        Of the parts that are not UIDs, it is the last one: for ``<namespace>/<pod>/<uid>`` it is
        ``<pod>``. If all parts are UIDs, it is the last part.
        """
        parts = self.id.split("/")
        readable = [part for part in parts if not _UID.match(part)]
        return (readable or parts)[-1]


def parse(uri: str) -> Identity:
    """Parse ``spiffe://<trust domain>/<kind>/<id>``; BadInput names the part that is wrong."""
    if len(uri) > URI_CHARACTERS_MAX:
        raise BadInput(f"identity of {len(uri)} characters exceeds {URI_CHARACTERS_MAX}")
    scheme, _, rest = uri.partition("://")
    trust_domain, *parts = rest.split("/")
    if scheme != "spiffe" or not _PART.match(trust_domain):
        raise BadInput(f"{quoted(uri)} is not spiffe://<trust domain>/<kind>/<id>")
    if len(parts) < 2 or parts[0] not in set(Kind):
        raise BadInput(f"{quoted(uri)} names no kind; known: {', '.join(Kind)}")
    return make(trust_domain, Kind(parts[0]), "/".join(parts[1:]))


def make(trust_domain: str, kind: Kind, id: str) -> Identity:
    """Build an identity and check each of its parts; BadInput names the part that is wrong."""
    parts = id.split("/")
    if len(parts) > PARTS_MAX:
        raise BadInput(f"id {quoted(id)} has {len(parts)} parts, more than {PARTS_MAX}")
    for part in (trust_domain, *parts):
        if not _PART.match(part):
            raise BadInput(
                f"{quoted(part)} in identity {kind}/{quoted(id)}: use 1 to 63 letters,"
                " digits, '.', '_', '-', beginning with a letter or digit"
            )
    return Identity(trust_domain, kind, id)
