"""The address of the Kubernetes API, and the service account with which a pod uses it.

The kubelet writes three files into each container: the token of the pod's service account, the
certificate of the authority that signed the API server's certificate, and the pod's namespace.  The
token is replaced from time to time, so it is read again for each request.
"""

from __future__ import annotations

import base64
import json
import os
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from midstreamer.domain.errors import ConfigError

DIRECTORY = Path("/var/run/secrets/kubernetes.io/serviceaccount")
HOST, PORT = "KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT"
OUTSIDE = "this is no pod with a service account, or automountServiceAccountToken is off"
"""The likely cause of a missing service account. Error messages about a missing account end with
it."""


@dataclass(frozen=True)
class Account:
    """The service account of a pod, and the API server that accepts its token."""

    host: str
    port: int
    namespace: str
    directory: Path = DIRECTORY
    who: str = "this service account"
    """Name of the account in messages."""

    def headers(self) -> list[tuple[str, str]]:
        """Return the headers Host and Authorization of a request; ConfigError without a token."""
        return [
            ("Host", f"{self.host}:{self.port}"),
            ("Authorization", f"Bearer {self.token()}"),
        ]

    @property
    def server(self) -> str:
        """URL of the API server."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"https://{host}:{self.port}"

    @property
    def authority_path(self) -> Path:
        """File with the certificate of the authority that signed the API server's certificate."""
        return self.directory / "ca.crt"

    def token(self) -> str:
        """Read and return the present token; ConfigError if it cannot be read."""
        return _read(self.directory / "token")

    def pod(self) -> tuple[str, str]:
        """Return (name, uid) of the pod to which the token is bound.

        Raises ConfigError if the token is bound to no pod.  The token is read without checking its
        signature.  That is safe, because the API server checks the token itself when a certificate
        is requested.
        """
        place = self.directory / "token"
        try:
            _, payload, _ = self.token().split(".")
            claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
            pod = claims["kubernetes.io"]["pod"]
            return str(pod["name"]), str(pod["uid"])
        except (ValueError, TypeError, KeyError) as error:
            raise ConfigError(
                f"{place}: the token is not bound to a pod, so it cannot request a certificate:"
                " mount the token of the pod's service account as Kubernetes does by default"
            ) from error

    def trust(self) -> ssl.SSLContext:
        """Return a TLS context that trusts only the authority that signed the API server's
        certificate; ConfigError if the file of that authority is missing."""
        try:
            context = ssl.create_default_context(cafile=str(self.authority_path))
        except (OSError, ssl.SSLError) as error:
            raise ConfigError(f"{self.authority_path}: {error}; {OUTSIDE}") from error
        # Turn off the strict checks, which are on by default since Python 3.13.  They require the
        # authority's certificate to have a key identifier, and in many clusters it has none.  The
        # chain, the dates and the host name are still verified.
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        return context


@dataclass(frozen=True)
class Proxied:
    """The API server, reached through kubectl's proxy on a Unix socket.  The proxy adds the user's
    credentials."""

    path: Path
    who: str = "this user"

    @property
    def server(self) -> str:
        """Name of the server in messages."""
        return f"{self.path} (kubectl's proxy)"

    def headers(self) -> list[tuple[str, str]]:
        """Return the header Host with localhost: the proxy accepts only names of this machine."""
        return [("Host", "localhost")]


def in_pod(environ: Mapping[str, str] = os.environ, directory: Path = DIRECTORY) -> Account:
    """Return the service account of this pod.  Outside a pod, raise ConfigError that names what is
    missing."""
    host, port = environ.get(HOST, ""), environ.get(PORT, "")
    if not host or not port.isdecimal():
        raise ConfigError(f"{HOST}={host!r} and {PORT}={port!r} name no API server: {OUTSIDE}")
    return Account(host, int(port), _read(directory / "namespace"), directory)


def _read(path: Path) -> str:
    try:
        text = path.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: {error}; {OUTSIDE}") from error
    if not text:
        raise ConfigError(f"{path} is empty; {OUTSIDE}")
    return text
