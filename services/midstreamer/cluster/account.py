"""Where the API of the cluster is, and as whom a pod speaks to it.

The kubelet writes three files into each container: the token of the pod's service account, the
authority that certified the API server, and the namespace.  The token is replaced from time to
time, so it is read again for each request.
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


@dataclass(frozen=True)
class Account:
    """One service account of one cluster, as a pod has it."""

    host: str
    port: int
    namespace: str
    directory: Path = DIRECTORY
    who: str = "this service account"
    """What it is called in messages."""

    def headers(self) -> list[tuple[str, str]]:
        """What a request says of where it goes and who asks; ConfigError without a token."""
        return [
            ("Host", f"{self.host}:{self.port}"),
            ("Authorization", f"Bearer {self.token()}"),
        ]

    @property
    def server(self) -> str:
        """The address of the API server as a URL."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"https://{host}:{self.port}"

    @property
    def authority_path(self) -> Path:
        """The file with the authority of the API server."""
        return self.directory / "ca.crt"

    def token(self) -> str:
        """The token as it is now; ConfigError when it cannot be read."""
        return _read(self.directory / "token")

    def pod(self) -> tuple[str, str]:
        """Name and uid of the pod to which the token is bound; ConfigError when it says none.

        The token says it, and nobody need be believed: the API server reads the same there when a
        certificate is asked for.
        """
        place = self.directory / "token"
        try:
            _, payload, _ = self.token().split(".")
            claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
            pod = claims["kubernetes.io"]["pod"]
            return str(pod["name"]), str(pod["uid"])
        except (ValueError, TypeError, KeyError) as error:
            raise ConfigError(
                f"{place} is not bound to a pod, so that nobody is certified by it: mount the token"
                " of the pod's service account as Kubernetes does by itself"
            ) from error

    def trust(self) -> ssl.SSLContext:
        """TLS that believes the cluster's authority and no other; ConfigError without one."""
        try:
            made = ssl.create_default_context(cafile=str(self.authority_path))
        except (OSError, ssl.SSLError) as error:
            raise ConfigError(f"{self.authority_path}: {error}; {OUTSIDE}") from error
        # From Python 3.13 on authorities must name their own key, which those of many clusters
        # do not.  Chain, dates and host name are checked as ever.
        made.verify_flags &= ~ssl.VERIFY_X509_STRICT
        return made


@dataclass(frozen=True)
class Proxied:
    """The API server behind a proxy on a Unix socket, which says by itself who asks."""

    path: Path
    who: str = "this user"

    @property
    def server(self) -> str:
        """What it is called in messages."""
        return f"{self.path} (kubectl's proxy)"

    def headers(self) -> list[tuple[str, str]]:
        """The proxy answers to this name alone."""
        return [("Host", "localhost")]


def in_pod(environ: Mapping[str, str] = os.environ, directory: Path = DIRECTORY) -> Account:
    """The account of this pod; ConfigError names what is missing, outside of one."""
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
