"""Decide whether a peer with a verified identity may connect; pure.

`security.certificate_chain` has verified the certificate and returned the Identity.  `CHECKS` is an
ordered list of checks; the first check that fails refuses the peer.  The checks run at the
handshake, and again for every open link whenever the policy changes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from midstreamer.domain.errors import Refused
from midstreamer.domain.identity import Identity, Kind
from midstreamer.security.allowlist import Allowlist
from midstreamer.security.refusal_reasons import Reason

__all__ = ["CHECKS", "Policy", "Reason", "admit", "refused"]


@dataclass(frozen=True)
class Policy:
    """Which peers this end of a link accepts."""

    trust_domain: str
    """The trust domain that a peer's identity must have."""
    kinds: frozenset[Kind]
    """The kinds of peers that are accepted: for a client the kind that it dialled, for a server the
    kinds of its clients."""
    allowlist: Allowlist | None
    """Identities that may connect. None: every verified identity of a kind in ``kinds`` may
    connect."""


Check = Callable[[Identity, Policy], Refused | None]


def refused(reason: Reason, message: str) -> Refused:
    """Return a Refused error. The message begins with ``reason``, so that the peer sees it."""
    return Refused(f"{reason}: {message}", reason=reason)


def same_trust_domain(identity: Identity, policy: Policy) -> Refused | None:
    """Refuse an identity of another trust domain.

    Several installations may share one certificate authority, so a valid chain is not enough.
    """
    if identity.trust_domain == policy.trust_domain:
        return None
    return refused(
        Reason.WRONG_TRUST_DOMAIN,
        f"{identity.uri} is not in the trust domain {policy.trust_domain!r}",
    )


def kind_is_served(identity: Identity, policy: Policy) -> Refused | None:
    """Refuse a peer whose kind is not one of ``policy.kinds``."""
    if identity.kind in policy.kinds:
        return None
    wanted = " or ".join(sorted(policy.kinds)) or "no peer at all"
    return refused(Reason.WRONG_KIND, f"{identity.name} connected where {wanted} is expected")


def on_allowlist(identity: Identity, policy: Policy) -> Refused | None:
    """Refuse an identity that no entry of the allowlist matches; without a list, refuse none."""
    if policy.allowlist is None or policy.allowlist.allows(identity):
        return None
    return refused(Reason.NOT_ALLOWED, f"{identity.name} is not on the allowlist")


CHECKS: tuple[Check, ...] = (same_trust_domain, kind_is_served, on_allowlist)


def admit(identity: Identity, policy: Policy) -> None:
    """Raise Refused, with the reason of the first check that fails, if a peer may not connect."""
    for check in CHECKS:
        if objection := check(identity, policy):
            raise objection
