"""Certificates and keys for `ssl`, which takes a key from a path alone."""

from __future__ import annotations

import os
import ssl
from collections.abc import Iterable

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from midstreamer.domain.errors import ConfigError
from midstreamer.security.credentials import Credentials


def show(made: ssl.SSLContext, credentials: Credentials) -> None:
    """Have a context present these credentials; ConfigError elsewhere than on Linux.

    The file is anonymous memory of this process: it has no name, no disk under it, and is gone
    when it is closed.
    """
    if not hasattr(os, "memfd_create"):
        raise ConfigError("TLS by `ssl` needs Linux: a key is handed to it in anonymous memory")
    key = credentials.key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    shown = (credentials.certificate, *credentials.intermediates)
    handle = os.memfd_create("", os.MFD_CLOEXEC)
    with os.fdopen(handle, "wb", closefd=True) as file:
        file.write(key + b"".join(one.public_bytes(serialization.Encoding.PEM) for one in shown))
        file.flush()
        made.load_cert_chain(f"/proc/self/fd/{handle}")


def trust(made: ssl.SSLContext, anchors: Iterable[x509.Certificate]) -> None:
    """Have a context believe these certificates, whether or not they signed themselves."""
    several = b"".join(one.public_bytes(serialization.Encoding.DER) for one in anchors)
    if several:
        made.load_verify_locations(cadata=several)


def dialling(anchors: Iterable[x509.Certificate]) -> ssl.SSLContext:
    """How to dial a server that has a host name: TLS 1.3, its chain and its name are checked."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.minimum_version = ssl.TLSVersion.TLSv1_3
    # Else a certificate without host names would hold for the one that is its common name.
    made.hostname_checks_common_name = False
    # An authority that another one signed may be trusted by itself.
    made.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    trust(made, anchors)
    return made


def serving(credentials: Credentials) -> ssl.SSLContext:
    """How to answer clients that show no certificate: TLS 1.3 and nothing older."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.minimum_version = ssl.TLSVersion.TLSv1_3
    made.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_TICKET
    made.num_tickets = 0  # each connection sees the certificate that is in force
    show(made, credentials)
    return made
