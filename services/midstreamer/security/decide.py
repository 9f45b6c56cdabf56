"""Who may connect: an ordered chain of checks on a certified identity; the first hit refuses.

A certificate became an Identity in `security.chain`; here it is judged by what this process
trusts.  The same chain judges at the handshake and again whenever the policy changes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from midstreamer.domain.errors import Refused
from midstreamer.domain.identity import Identity, Kind
from midstreamer.security.allowlist import Allowlist
from midstreamer.security.reasons import Reason

__all__ = ["CHECKS", "Policy", "Reason", "admit", "refused"]


@dataclass(frozen=True)
class Policy:
    """What is trusted at this end of a link."""

    trust_domain: str
    kinds: frozenset[Kind]
    """The kind that was dialled, or the kinds this server serves."""
    allowlist: Allowlist | None
    """None: every certified identity of these kinds."""


Check = Callable[[Identity, Policy], Refused | None]


def refused(reason: Reason, message: str) -> Refused:
    """A refusal whose message begins with its reason, so that the peer can read it too."""
    return Refused(f"{reason}: {message}", reason=reason)


def same_trust_domain(identity: Identity, policy: Policy) -> Refused | None:
    """An authority may be shared by installations; identities of another one are strangers."""
    if identity.trust_domain == policy.trust_domain:
        return None
    return refused(Reason.WRONG_TRUST_DOMAIN, f"{identity.uri} is not of {policy.trust_domain!r}")


def kind_is_served(identity: Identity, policy: Policy) -> Refused | None:
    """Servers are known by their kind, and serve only kinds that have something to say."""
    if identity.kind in policy.kinds:
        return None
    wanted = " or ".join(sorted(policy.kinds)) or "no peer at all"
    return refused(Reason.WRONG_KIND, f"{identity.name} came where {wanted} is expected")


def on_allowlist(identity: Identity, policy: Policy) -> Refused | None:
    """A good certificate is not enough: the operator of the installation must have listed it."""
    if policy.allowlist is None or policy.allowlist.allows(identity):
        return None
    return refused(Reason.NOT_ALLOWED, f"{identity.name} is not on the allowlist")


CHECKS: tuple[Check, ...] = (same_trust_domain, kind_is_served, on_allowlist)


def admit(identity: Identity, policy: Policy) -> None:
    """Raise Refused with the first check that objects."""
    for check in CHECKS:
        if objection := check(identity, policy):
            raise objection
