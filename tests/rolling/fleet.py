"""Two syncs, two coordinators, three agents: started in either version, ended, replaced.

A rolling restart uses this fleet, and so does `tests.observed`. Every member keeps its identity,
its ports and its folder when it restarts, as a pod of a StatefulSet does. Each start has its own
log, ``<member>-<start>-<version>.log``.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Protocol, Self

from pydantic import ValidationError

from midstreamer.agent.config import AgentSettings
from midstreamer.cli import child_processes, peer_credentials
from midstreamer.cli.child_processes import Child
from midstreamer.cli.local_fleet import TRUST_DOMAIN, free_ports
from midstreamer.cli.state_folder import StateFolder
from midstreamer.coordinator.config import CoordinatorSettings
from midstreamer.runtime import config
from midstreamer.security import files
from midstreamer.store.embedded_postgres import EmbeddedServer
from tests.rolling import plan
from tests.rolling.judgement import Happened
from tests.rolling.load import LINK_AGE_S
from tests.rolling.plan import CLIENTS, HOME, MEMBERS, Version
from tests.support import previous_version

READY_S = 90.0
STOP_S = 60.0
"""Seconds that a process may take to end after SIGTERM.

A process that takes longer is killed, and the restart counts as failed.
"""
POLL_S = 0.05
HELD, COMPLETE = "midstreamer_shards_held", "midstreamer_complete"
CERTIFICATE = "midstreamer_certificate_not_after_seconds"


class Server(Protocol):
    """The database: the embedded server, or a `midstreamer postgres` process."""

    @property
    def dsn(self) -> str: ...

    async def start(self) -> str: ...

    async def stop(self) -> None: ...

    async def erase(self) -> None: ...


@dataclass
class Place:
    """The addresses of a member of the fleet, which stay the same when it restarts."""

    plain: str
    """``host:port`` without a scheme."""
    health: str
    carrier: str = "quic"
    lives: int = 0
    child: Child | None = None
    version: Version = Version.OLD

    def listen(self, version: Version) -> str:
        """Return the listen address in the form that the code of this version accepts."""
        named = version is Version.NEW and self.carrier != "quic"
        return f"{self.carrier}://{self.plain}" if named else self.plain


@dataclass
class Fleet:
    """PostgreSQL and all members; use it with ``async with``."""

    state: StateFolder
    versions: dict[str, Version]
    news: Callable[[str], None]
    carrier: str = "quic"
    """The carrier of links between two processes of this checkout; all other links use QUIC."""
    places: dict[str, Place] = field(default_factory=dict)
    shards: int = 0
    """Minimum number of shard copies that all agents together hold when the fleet is complete."""
    settings: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Additional environment variables of members, by kind: ``{"sync": {"LEASE_S": "1"}}``."""
    clients: tuple[str, ...] = tuple(CLIENTS)
    """Names of the clients that get a certificate and are on the allowlist."""
    server: Server = field(init=False)

    def __post_init__(self) -> None:
        self.server = EmbeddedServer(self.state.postgres)

    async def __aenter__(self) -> Self:
        try:
            await self._start()
        except BaseException:
            await self._stop()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._stop()

    @property
    def named(self) -> list[str]:
        """Return all holders of a certificate, as ``<kind>/<id>``."""
        members = [f"{kind}/{name}" for name, kind in MEMBERS.items()]
        return [*members, *(f"client/{name}" for name in self.clients)]

    def coordinators(self, version: Version) -> list[str]:
        """Return the coordinators' addresses in the form that a client of this version accepts."""
        return [
            self.places[name].listen(version)
            for name in MEMBERS
            if MEMBERS[name] == plan.COORDINATOR
        ]

    async def _start(self) -> None:
        self.news("starting PostgreSQL, 2 syncs, 2 coordinators, 3 agents")
        if Version.OLD in self.versions.values():
            # If the previous version is not built yet, this builds it, which takes long.
            await asyncio.to_thread(previous_version.unpacked)
        members = [peer_credentials.named(each, TRUST_DOMAIN) for each in self.named]
        await asyncio.to_thread(peer_credentials.prepare, self.state.certs, members)
        await self.server.start()
        ports = free_ports(2 * len(MEMBERS))
        listen, health = ports[: len(MEMBERS)], ports[len(MEMBERS) :]
        for name, port, probed in zip(MEMBERS, listen, health, strict=True):
            self.places[name] = Place(f"127.0.0.1:{port}", f"127.0.0.1:{probed}", self.carrier)
        # The second sync starts when the first has created the tables, as in an upgrade one by one.
        for name in MEMBERS:
            await self.begin(name, self.versions[name])
            if MEMBERS[name] == plan.SYNC:
                await self._ready(name)
        await self.whole()

    async def begin(self, name: str, version: Version) -> None:
        """Start a member again; do not wait until it is ready."""
        place = self.places[name]
        place.lives += 1
        place.version = version
        environment = settings_of(name, version, self)
        log = self.state.logs / f"{name}-{place.lives}-{version}.log"
        place.child = Child(name, MEMBERS[name], environment, place.health, log, 0, self.news)
        await place.child.start()

    # --- events ---

    async def replace(self, name: str, version: Version, how: signal.Signals) -> Happened:
        """End a member, start it in this version, and wait until the fleet is complete."""
        at_s = time.monotonic()
        complaint = await self.end(name, how)
        ended_s = time.monotonic() - at_s
        event = f"{name} {self.places[name].version} → {version}"
        await self.begin(name, version)
        await self.whole()
        back_s = time.monotonic() - at_s
        return Happened(event, how.name, at_s, ended_s, back_s, complaint)

    async def end(self, name: str, how: signal.Signals) -> str:
        """Signal a member and wait for its end; return what went wrong as it ended, or ""."""
        one = self.places[name].child
        assert one is not None
        assert one.process is not None
        with contextlib.suppress(ProcessLookupError):
            one.process.send_signal(how)
        try:
            async with asyncio.timeout(STOP_S):
                code = await one.process.wait()
        except TimeoutError:
            one.process.kill()
            await one.process.wait()
            return f"{name} did not end within {STOP_S:g} s of {how.name}"
        expected = -how if how is signal.SIGKILL else 0
        return "" if code == expected else f"{name} ended with {code}, not {expected}"

    async def renew(self) -> Happened:
        """Issue every certificate again, and wait until every process presents its new one."""
        at_s = time.monotonic()
        held = {name: await self._certificate_ends(name) for name in MEMBERS}
        authority = files.open_authority(self.state.certs)
        for member in self.named:
            identity = peer_credentials.named(member, TRUST_DOMAIN)
            await asyncio.to_thread(files.issue, authority, identity, self.state.certs)
        for name in MEMBERS:
            while await self._certificate_ends(name) <= held[name]:
                _in_time(at_s, f"{name} did not take its renewed certificate")
                await asyncio.sleep(POLL_S)
        await self.whole()
        return Happened(str(plan.RENEW), "", at_s, back_s=time.monotonic() - at_s)

    async def _certificate_ends(self, name: str) -> float:
        return await scraped(self.places[name].health, CERTIFICATE) or 0.0

    # --- the fleet's condition ---

    async def whole(self) -> None:
        """Wait until all members are ready, and each shard is held by two agents."""
        for name in MEMBERS:
            await self._ready(name)
        since_s = time.monotonic()
        agents = [place for name, place in self.places.items() if MEMBERS[name] == plan.AGENT]
        while not await self._complete(agents):
            _in_time(
                since_s, f"not every shard is held by two agents: {self.shards} copies are needed"
            )
            await asyncio.sleep(POLL_S)

    async def _complete(self, agents: list[Place]) -> bool:
        coordinators = [
            await scraped(place.health, COMPLETE)
            for name, place in self.places.items()
            if MEMBERS[name] == plan.COORDINATOR
        ]
        # Coordinators of the previous version have no gauge COMPLETE; they are complete once ready.
        return 0.0 not in coordinators and await self._held(agents) >= self.shards

    async def _held(self, agents: list[Place]) -> float:
        return sum([await scraped(place.health, HELD) or 0.0 for place in agents])

    async def _ready(self, name: str) -> None:
        place = self.places[name]
        one = place.child
        assert one is not None
        assert one.process is not None
        since_s = time.monotonic()
        while not await child_processes.complete(place.health):
            status = f"{name} ({place.version}) is not ready: {one.last_words()}; see {one.log}"
            if one.process.returncode is not None:
                raise AssertionError(f"exit code {one.process.returncode}: {status}")
            _in_time(since_s, status)
            await asyncio.sleep(POLL_S)

    async def _stop(self) -> None:
        for kind in (plan.AGENT, plan.COORDINATOR, plan.SYNC):
            several = [place.child for name, place in self.places.items() if MEMBERS[name] == kind]
            await asyncio.gather(*(each.stop(STOP_S) for each in several if each is not None))
        await self.server.stop()


def settings_of(name: str, version: Version, fleet: Fleet) -> dict[str, str]:
    """Return a member's environment; for the previous version, without settings that it lacks."""
    kind, place = MEMBERS[name], fleet.places[name]
    own: dict[str, str] = {"ID": name, "TELEMETRY__LISTEN": place.health}
    if kind == plan.SYNC:
        own |= {"LISTEN": place.listen(version), "DSN": fleet.server.dsn}
    elif kind == plan.COORDINATOR:
        own |= {"LISTEN": place.listen(version), "SPOOL_DIR": str(fleet.state.spool / name)}
    else:
        own |= {"THREADS": "1"}
    own |= fleet.settings.get(kind, {})
    if name in HOME:
        own["SYNC"] = _syncs(name, version, fleet)
    shared = {
        f"{config.PREFIX}SECURITY__DIRECTORY": str(fleet.state.certs),
        f"{config.PREFIX}SECURITY__TRUST_DOMAIN": TRUST_DOMAIN,
    }
    if version is Version.NEW and "link_age_s" in config.LimitSettings.model_fields:
        shared[f"{config.PREFIX}LIMITS__LINK_AGE_S"] = str(LINK_AGE_S)
    if version is Version.OLD:
        # Let it read no file: config.toml has sections that the previous version does not know.
        shared |= previous_version.environment() | {config.FILE_VARIABLE: os.devnull}
    return shared | {f"{config.PREFIX}{kind.upper()}__{key}": value for key, value in own.items()}


def _syncs(name: str, version: Version, fleet: Fleet) -> str:
    """Return the value of a member's setting ``sync``.

    If the setting takes a list in this version, the value has the addresses of both syncs.
    Otherwise the value is the address of the sync that `HOME` assigns to the member.
    """
    home = fleet.places[HOME[name]].listen(version)
    others = [place.listen(version) for other, place in fleet.places.items()
              if MEMBERS[other] == plan.SYNC and other != HOME[name]]  # fmt: skip
    settings = CoordinatorSettings if MEMBERS[name] == plan.COORDINATOR else AgentSettings
    if version is Version.NEW and _takes_several(settings, (home, *others)):
        return json.dumps([home, *others])
    return home


def _takes_several(settings: Any, addresses: tuple[str, ...]) -> bool:
    try:
        settings(sync=addresses)
    except ValidationError:
        return False
    return True


def _in_time(since_s: float, what: str) -> None:
    """Raise AssertionError when `READY_S` seconds have passed since ``since_s``."""
    if time.monotonic() - since_s > READY_S:
        raise AssertionError(f"{what}, after {READY_S:g} s")


async def scraped(address: str, metric: str) -> float | None:
    """Return the value of a metric without labels; None if the process or the metric is missing."""
    host, _, port = address.rpartition(":")
    try:
        reader, writer = await asyncio.open_connection(host, int(port))
        try:
            writer.write(b"GET /metrics HTTP/1.1\r\n\r\n")
            text = (await reader.read()).decode()
        finally:
            writer.close()
    except OSError:
        return None
    found = [line for line in text.splitlines() if line.startswith(f"{metric} ")]
    return float(found[0].partition(" ")[2]) if found else None


def client_environment(version: Version) -> dict[str, str]:
    """Return the environment of a client's process."""
    return os.environ | (previous_version.environment() if version is Version.OLD else {})
