"""`admit` decides whether an identity may connect; the first check that fails gives the reason."""

import pytest

from midstreamer.domain.errors import Refused
from midstreamer.domain.identity import Identity, Kind
from midstreamer.security import admission, allowlist
from midstreamer.security.admission import Policy, Reason
from tests.support.identity_builders import DOMAIN, who

POLICY = Policy(DOMAIN, frozenset({Kind.AGENT, Kind.CLIENT}), allowlist.parse("agent/a1"))


def reason_for(identity: Identity, policy: Policy = POLICY) -> str:
    with pytest.raises(Refused) as refused:
        admission.admit(identity, policy)
    return refused.value.reason


def test_a_listed_identity_of_this_domain_and_a_served_kind_is_admitted() -> None:
    admission.admit(who(Kind.AGENT, "a1"), POLICY)


def test_without_an_allowlist_every_certified_identity_of_the_kind_is_admitted() -> None:
    admission.admit(who(Kind.CLIENT, "u9"), Policy(DOMAIN, frozenset({Kind.CLIENT}), None))


def test_the_first_check_that_objects_gives_the_reason() -> None:
    stranger = who(Kind.SYNC, "s1", domain="other.local")
    assert reason_for(stranger) == Reason.WRONG_TRUST_DOMAIN
    assert reason_for(who(Kind.SYNC, "s1")) == Reason.WRONG_KIND
    assert reason_for(who(Kind.AGENT, "a2")) == Reason.NOT_ALLOWED


def test_a_server_that_serves_nobody_says_so() -> None:
    with pytest.raises(Refused, match="where no peer at all is expected"):
        admission.admit(who(Kind.AGENT), Policy(DOMAIN, frozenset(), None))
