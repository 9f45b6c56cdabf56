"""Settings of a client, in the section ``[client]``: addresses, identity and timeouts."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from midstreamer.runtime import config
from midstreamer.runtime.addresses import Addresses


class ClientSettings(config.Settings):
    """Settings of the commands that connect to a running fleet. The SDK may use them too."""

    section: ClassVar[str] = "client"

    addresses: Addresses = ("127.0.0.1:7400",)
    """Addresses of coordinators, `host:port`. Any one of them is enough; when a request fails at
    one coordinator, the client retries it at another."""
    identity: str = "client/local"
    """Identity of this client, `client/<id>` or `operator/<id>`. It selects the certificate in
    `security.directory`."""
    deadline_s: float = Field(30.0, gt=0, le=3600)
    """Timeout of one call in seconds, including all retries. If it is too short, an outage of a few
    seconds becomes an error; if it is too long, a wrong address is noticed late."""
    attempt_s: float = Field(10.0, gt=0, le=600)
    """Timeout of one attempt in seconds; after the timeout the client retries at another
    coordinator."""
    reach_s: float = Field(1.2, gt=0, le=600)
    """Seconds that the commands `status` and `match` wait for a first connection before they report
    that no coordinator can be reached. Raise the value where a handshake takes longer."""
    security: config.SecuritySettings = config.SecuritySettings()
    limits: config.LimitSettings = config.LimitSettings()
