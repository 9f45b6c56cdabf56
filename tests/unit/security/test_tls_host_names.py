"""A TLS client that dials a host name accepts only a certificate that contains this name."""

from __future__ import annotations

import contextlib
import ssl
import time

import pytest

from midstreamer.domain import identity
from midstreamer.security import tls
from midstreamer.security.authority import establish
from midstreamer.security.credentials import Credentials

HOST = "db.example"
AUTHORITY = establish("test.local", now_s=time.time())


def credentials(name: str, *hosts: str) -> Credentials:
    me = identity.parse(f"spiffe://test.local/{name}")
    issued = AUTHORITY.certify(me, now_s=time.time(), dns_names=hosts)
    return Credentials(me, issued.certificate, (), issued.key, (AUTHORITY.certificate,))


def dialled(shown: Credentials) -> str | None:
    """Connect a client that dials the name `HOST` to a server that shows these credentials.

    Return the TLS version, or None if the handshake is not complete. Raise SSLCertVerificationError
    if the client does not accept the credentials for `HOST`.
    """
    to_server, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = tls.serving(shown).wrap_bio(to_server, back, server_side=True)
    client = tls.dialling(shown.anchors).wrap_bio(back, to_server, server_hostname=HOST)
    for end in (client, server, client, server):
        with contextlib.suppress(ssl.SSLWantReadError):
            end.do_handshake()
    return client.version()


def test_a_certificate_is_believed_for_the_host_name_that_it_carries() -> None:
    assert dialled(credentials("postgres/p", HOST)) == "TLSv1.3"


@pytest.mark.parametrize("name", [f"coordinator/{HOST}", f"sync/ns/{HOST}", "postgres/p"])
def test_a_member_that_is_called_like_the_host_is_not_believed_for_it(name: str) -> None:
    with pytest.raises(ssl.SSLCertVerificationError, match="mismatch"):
        dialled(credentials(name))
