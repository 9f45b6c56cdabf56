"""Make TLS contexts of `ssl` from certificates and keys in memory.

`ssl` loads a private key only from a file path, so the key is passed in an anonymous file.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Iterable

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from midstreamer.domain.errors import ConfigError
from midstreamer.security.credentials import Credentials


def show(made: ssl.SSLContext, credentials: Credentials) -> None:
    """Let a TLS context present these credentials to peers.

    The key is passed in an anonymous memory file (memfd), which is on no disk, has no name, and is
    gone when it is closed.  Raises ConfigError on systems other than Linux, which have no memfd.
    """
    if not hasattr(os, "memfd_create"):
        raise ConfigError(
            "TLS over TCP needs Linux, because the private key is passed to `ssl` in anonymous"
            " memory (memfd)"
        )
    key = credentials.key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    shown = (credentials.certificate, *credentials.intermediates)
    handle = os.memfd_create("", os.MFD_CLOEXEC)
    with os.fdopen(handle, "wb", closefd=True) as file:
        file.write(key + b"".join(each.public_bytes(serialization.Encoding.PEM) for each in shown))
        file.flush()
        made.load_cert_chain(f"/proc/self/fd/{handle}")


def trust(made: ssl.SSLContext, anchors: Iterable[x509.Certificate]) -> None:
    """Let a TLS context trust these authorities, whether or not they are self-signed."""
    encoded = b"".join(each.public_bytes(serialization.Encoding.DER) for each in anchors)
    if encoded:
        made.load_verify_locations(cadata=encoded)


def dialling(anchors: Iterable[x509.Certificate]) -> ssl.SSLContext:
    """Return a TLS 1.3 context for dialling a server by its host name.

    The server's certificate chain and host name are verified.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    # Otherwise the common name of a certificate without host names would count as its host name.
    context.hostname_checks_common_name = False
    # Allows a trusted authority that is an intermediate, without trusting its root.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    trust(context, anchors)
    return context


def serving(credentials: Credentials) -> ssl.SSLContext:
    """Return a TLS 1.3 context for a server whose clients present no certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_TICKET
    context.num_tickets = 0  # no session resumption: each connection gets the present certificate
    show(context, credentials)
    return context
