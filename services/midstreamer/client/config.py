"""What a client can be told: whom to ask, as whom, and how patiently."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from midstreamer.runtime import config
from midstreamer.runtime.addresses import Addresses


class ClientSettings(config.Settings):
    """Settings of the commands that talk to a running fleet, and of the SDK by choice."""

    section: ClassVar[str] = "client"

    addresses: Addresses = ("127.0.0.1:7400",)
    """Coordinators, `host:port`; the next one is asked when one fails. Any of them will do."""
    identity: str = "client/local"
    """Who this client is, `client/<id>` or `operator/<id>`: names the certificate in
    `security.directory`."""
    deadline_s: float = Field(30.0, gt=0, le=3600)
    """Seconds that one call may take, all its attempts together. Too short and an outage of a
    few seconds becomes an error; too long and a wrong address is noticed late."""
    attempt_s: float = Field(10.0, gt=0, le=600)
    """Seconds that one attempt may take before another coordinator is asked."""
    reach_s: float = Field(1.2, gt=0, le=600)
    """Most seconds that `status` and `match` wait for a first connection before they say that
    nobody is there. Raise it where a handshake takes longer."""
    security: config.SecuritySettings = config.SecuritySettings()
    limits: config.LimitSettings = config.LimitSettings()
