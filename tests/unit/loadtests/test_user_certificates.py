"""A load test in a cluster requests a certificate for each of its users.

It writes the certificates to files, where each user finds its own certificate.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from loadtests import identities, user_certificates
from midstreamer.domain.errors import DeadlineExceeded, Refused
from midstreamer.domain.identity import Identity
from midstreamer.security import files
from midstreamer.security.local_issuer import AuthorityIssuer
from midstreamer.security.requested_credentials import Signed

DOMAIN = "test.local"


class Counting:
    """An issuer that signs with the authority in ``directory`` and counts requests in progress."""

    def __init__(self, directory: Path) -> None:
        self._issuer = AuthorityIssuer(directory)
        self.open = self.most = 0

    async def sign(self, request_pem: bytes, identity: Identity) -> Signed:
        """Sign the request; `most` is the highest number of requests in progress at once."""
        self.open += 1
        self.most = max(self.most, self.open)
        try:
            await asyncio.sleep(0)
            return await self._issuer.sign(request_pem, identity)
        finally:
            self.open -= 1


class Refusing:
    """An issuer that refuses every request."""

    async def sign(self, request_pem: bytes, identity: Identity) -> Signed:
        """Refuse the request; the message contains the name of the identity."""
        raise Refused(f"{identity.name} may not be used")


async def test_every_user_of_a_worker_finds_its_certificate(tmp_path: Path) -> None:
    files.init_authority(tmp_path / "authority", DOMAIN)
    issuer = Counting(tmp_path / "authority")
    who = identities.of_worker(40, 1, 2, DOMAIN)

    await user_certificates.Keeper(issuer, tmp_path / "certs", who).obtain()

    trusts = [identities.trust(tmp_path / "certs", each) for each in who]
    assert [each.me for each in trusts] == who
    assert 1 < issuer.most <= user_certificates.AT_ONCE


async def test_users_that_nobody_certifies_are_told_with_the_reason(tmp_path: Path) -> None:
    who = identities.of_worker(2, 0, 1, DOMAIN)
    keeper = user_certificates.Keeper(Refusing(), tmp_path, who)

    with pytest.raises(DeadlineExceeded, match=r"4 of 4 users .* may not be used"):
        await keeper.obtain(within_s=0.2)


def test_workers_share_users_so_that_each_has_as_many_as_locust_may_give_it() -> None:
    workers = [identities.of_worker(5, number, 2, DOMAIN) for number in range(2)]

    names = [[each.name for each in some] for some in workers]
    assert names[0] == [
        "client/load-00000", "client/load-00002", "client/load-00004", "client/load-sdk-0",
        "client/stranger",
    ]  # fmt: skip
    assert names[1][:3] == ["client/load-00001", "client/load-00003", "client/load-00005"]
