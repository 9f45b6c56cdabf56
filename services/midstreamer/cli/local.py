"""A whole fleet on this machine: PostgreSQL, identities, sync, a coordinator, agents.

Everything lies in one state folder and listens on loopback.  Ports are chosen free at each start
and kept for the fleet's life, so a process that is started again is found where it was.
Settings reach the children by the configuration file and environment variables; there are no
secrets among them: the database is reached over a private socket, and every process reads its
own key from the folder, or makes it (`security.key`).  Inside ``async with`` all are ready and
watched; leaving stops agents, coordinator, sync and PostgreSQL, in that order, also after an error.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from midstreamer.agent.config import AgentSettings
from midstreamer.cli import identities
from midstreamer.cli.child import Child
from midstreamer.cli.config import RunSettings
from midstreamer.cli.errors import foreseen
from midstreamer.cli.state import StateFolder
from midstreamer.coordinator.config import CoordinatorSettings
from midstreamer.domain.errors import Unavailable
from midstreamer.domain.identity import Identity, Kind
from midstreamer.runtime import config, shutdown
from midstreamer.store.embedded import EmbeddedServer
from midstreamer.sync.config import SyncSettings
from midstreamer.transport.carrier import Carrier

COORDINATOR, SYNC, CLIENT = "c1", "s1", "local"
TRUST_DOMAIN = config.SecuritySettings().trust_domain


class LocalFleet:
    """PostgreSQL and the processes of one run; use it with ``async with``."""

    def __init__(
        self,
        state: StateFolder,
        settings: RunSettings,
        *,
        config_file: Path | None,
        news: Callable[[str], None],
    ) -> None:
        self.state = state
        self.settings = settings
        self.server = EmbeddedServer(state.postgres)
        self.children: list[Child] = []
        self.coordinator = ""
        """Address of the coordinator."""
        self._config_file = config_file
        self._news = news
        self._watching: asyncio.Task[None] | None = None
        self._owner: asyncio.Task[object] | None = None
        self._failure: BaseException | None = None

    async def __aenter__(self) -> Self:
        self._owner = asyncio.current_task()
        try:
            self._news("starting PostgreSQL")
            dsn = await self.server.start()
            self._news("preparing identities")
            await asyncio.to_thread(
                identities.prepare,
                self.state.certs,
                self._members(),
                in_memory=_in_memory(self._config_file),
            )
            self._plan(dsn)
            self._tell_clients()
            await self._start()
        except BaseException:
            await shutdown.finish(self._stop())
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await shutdown.finish(self._stop())
        if self._failure is not None and isinstance(error, asyncio.CancelledError):
            task = asyncio.current_task()
            if task is not None:
                task.uncancel()
            raise self._failure

    @property
    def client_config(self) -> Path:
        """A configuration file for commands that ask this fleet while it runs."""
        return self.state.folder / "client.toml"

    def _tell_clients(self) -> None:
        self.client_config.write_text(
            "# Written at every start: reaches the fleet that runs here.\n"
            f'[client]\naddresses = ["{self.coordinator}"]\nidentity = "client/{CLIENT}"\n'
            f"\n[security]\ndirectory = {json.dumps(str(self.state.certs))}\n"
            f'trust_domain = "{TRUST_DOMAIN}"\n',
            encoding="utf-8",
        )

    def client_carrier(self) -> Carrier:
        """The carrier of this process, as the fleet's local client."""
        me = identities.named(f"client/{CLIENT}", TRUST_DOMAIN)
        security = config.SecuritySettings(directory=self.state.certs, trust_domain=TRUST_DOMAIN)
        return identities.carrier(me, security, config.LimitSettings())

    def _members(self) -> list[Identity]:
        agents = [f"agent/{each}" for each in self._agent_ids()]
        people = [f"client/{CLIENT}", f"operator/{CLIENT}"]
        names = [f"sync/{SYNC}", f"coordinator/{COORDINATOR}", *people, *agents]
        return [identities.named(name, TRUST_DOMAIN) for name in names]

    def _agent_ids(self) -> list[str]:
        return [f"a{number}" for number in range(1, self.settings.agents + 1)]

    def _plan(self, dsn: str) -> None:
        """Decide about ports and environments of all children."""
        carrier = self.settings.carrier
        before = "" if carrier == "quic" else f"{carrier}://"
        ports = free_ports(2, datagram=carrier != "wss")
        sync, self.coordinator = (f"{before}127.0.0.1:{port}" for port in ports)
        health = free_ports(2 + self.settings.agents, datagram=False)
        shared = {
            "MIDSTREAMER_SECURITY__DIRECTORY": str(self.state.certs),
            "MIDSTREAMER_SECURITY__TRUST_DOMAIN": TRUST_DOMAIN,
            **({config.FILE_VARIABLE: str(self._config_file)} if self._config_file else {}),
        }
        self._add("sync", "sync", health.pop(), shared, id=SYNC, listen=sync, dsn=dsn)
        self._add(
            "coordinator", "coordinator", health.pop(), shared,
            id=COORDINATOR, listen=self.coordinator, sync=sync,
            spool_dir=str(self.state.spool),
        )  # fmt: skip
        for number, agent in enumerate(self._agent_ids(), start=1):
            self._add(
                f"agent-{number}", "agent", health.pop(), shared,
                id=agent, sync=sync, engine=self.settings.engine,
            )  # fmt: skip

    def _add(self, name: str, verb: str, port: int, shared: dict[str, str], **values: str) -> None:
        health = f"127.0.0.1:{port}"
        prefix = f"{config.PREFIX}{verb.upper()}__"
        own = {f"{prefix}{key.upper()}": value for key, value in values.items()}
        own[f"{prefix}TELEMETRY__LISTEN"] = health
        log = self.state.logs / f"{name}.log"
        self.children.append(
            Child(
                name, verb, {**shared, **own}, health, log, self.settings.restarts_max, self._news
            )
        )

    async def _start(self) -> None:
        """Start and watch everything; return when all are ready."""
        self._news(f"starting {', '.join(child.name for child in self.children)}")
        self._watching = asyncio.create_task(self._watch(), name="fleet.watch")
        ready = asyncio.create_task(self._all_ready(), name="fleet.ready")
        try:
            async with asyncio.timeout(self.settings.ready_s):
                both: set[asyncio.Task[None]] = {ready, self._watching}
                await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        except TimeoutError:
            late = [child for child in self.children if not child.was_ready]
            raise Unavailable(
                f"{late[0].name} was not ready within run.ready_s={self.settings.ready_s:g}:"
                f" {late[0].last_words()}; see {late[0].log}"
            ) from None
        finally:
            ready.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await ready
        if self._failure is not None:
            raise self._failure

    async def _all_ready(self) -> None:
        await asyncio.gather(*(child.ready() for child in self.children))

    async def _watch(self) -> None:
        """Keep everything alive; a failure that cannot be mended ends the run."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._watch_server())
                for child in self.children:
                    group.create_task(child.watch())
        except* Exception as failures:
            self._failure = foreseen(failures)
            if self._owner is not None and all(child.was_ready for child in self.children):
                self._owner.cancel("the fleet failed")

    async def _watch_server(self) -> None:
        restarts = 0
        while True:
            status = await self.server.wait()
            restarts += 1
            if restarts > self.settings.restarts_max:
                raise Unavailable(f"PostgreSQL ended {restarts} times; see {self.server.log}")
            self._news(f"PostgreSQL ended with status {status}; starting it again")
            await self.server.start()

    async def _stop(self) -> None:
        """Agents, coordinator, sync, PostgreSQL: each after those that need it."""
        if self._watching is not None:
            self._watching.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._watching
        stop_s = self.settings.stop_s
        agents = [child for child in self.children if child.verb == "agent"]
        await asyncio.gather(*(child.stop(stop_s) for child in agents))
        for verb in ("coordinator", "sync"):
            for child in self.children:
                if child.verb == verb:
                    await child.stop(stop_s)
        await self.server.stop()


def _in_memory(config_file: Path | None) -> set[Kind]:
    """The kinds whose processes will have their key in memory, by what they will be told."""
    services: dict[Kind, type[SyncSettings | CoordinatorSettings | AgentSettings]] = {
        Kind.SYNC: SyncSettings,
        Kind.COORDINATOR: CoordinatorSettings,
        Kind.AGENT: AgentSettings,
    }
    told = {kind: config.load(of, config_file=config_file) for kind, of in services.items()}
    return {kind for kind, made in told.items() if made.security.key == "memory"}


def free_ports(count: int, *, datagram: bool) -> list[int]:
    """Ports that nobody uses now, all different."""
    kind = socket.SOCK_DGRAM if datagram else socket.SOCK_STREAM
    with contextlib.ExitStack() as open_:
        ports = []
        for _ in range(count):
            probe = open_.enter_context(socket.socket(socket.AF_INET, kind))
            probe.bind(("127.0.0.1", 0))
            ports.append(int(probe.getsockname()[1]))
    return ports
