"""A whole fleet on this machine: PostgreSQL, identities, sync, a coordinator, agents.

All files are in one state folder, and all processes listen on loopback. Free ports are chosen at
each start and kept until the fleet stops, so that a restarted process has its old address. The
children get their settings from the configuration file and from environment variables. The
variables contain no secrets: the database is reached over a private socket, and every process reads
its own key from the folder or creates it in memory (`security.key`). Inside ``async with`` all
processes are ready and watched. On leaving, also after an error, agents, coordinator, sync and
PostgreSQL are stopped in this order.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import random
import socket
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from midstreamer.agent.config import AgentSettings
from midstreamer.cli import peer_credentials
from midstreamer.cli.child_processes import Child
from midstreamer.cli.error_lines import foreseen
from midstreamer.cli.run_settings import RunSettings
from midstreamer.cli.state_folder import StateFolder
from midstreamer.coordinator.config import CoordinatorSettings
from midstreamer.domain.errors import Unavailable
from midstreamer.domain.identity import Identity, Kind
from midstreamer.runtime import config, shutdown
from midstreamer.store.embedded_postgres import EmbeddedServer
from midstreamer.sync.config import SyncSettings
from midstreamer.transport.carrier import Carrier

COORDINATOR, SYNC, CLIENT = "c1", "s1", "local"
"""Ids of the coordinator, of sync and of the client."""
PORTS = range(16_384, 30_000)
"""Ports for processes, all below 32,768: Linux gives higher ports to outgoing connections."""
PORT_TRIES = 1000
_RANDOM = random.SystemRandom()  # no seed, so that two programs choose different ports
TRUST_DOMAIN = config.SecuritySettings().trust_domain


class LocalFleet:
    """PostgreSQL and the processes of one run. Use it with ``async with``."""

    def __init__(
        self,
        state: StateFolder,
        settings: RunSettings,
        *,
        config_file: Path | None,
        news: Callable[[str], None],
    ) -> None:
        """Prepare a fleet without starting it; ``news`` is called with each line for the user."""
        self.state = state
        self.settings = settings
        self.server = EmbeddedServer(state.postgres)
        self.children: list[Child] = []
        self.coordinator = ""
        """Address of the coordinator; empty before the start."""
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
                peer_credentials.prepare,
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
        """Path of the configuration file for commands that query this fleet while it runs."""
        return self.state.folder / "client.toml"

    def _tell_clients(self) -> None:
        """Write the configuration file for clients."""
        self.client_config.write_text(
            "# Rewritten at every start: settings for clients of the fleet that runs here.\n"
            f'[client]\naddresses = ["{self.coordinator}"]\nidentity = "client/{CLIENT}"\n'
            f"\n[security]\ndirectory = {json.dumps(str(self.state.certs))}\n"
            f'trust_domain = "{TRUST_DOMAIN}"\n',
            encoding="utf-8",
        )

    def client_carrier(self) -> Carrier:
        """Return a carrier for this process as the local client of the fleet."""
        me = peer_credentials.named(f"client/{CLIENT}", TRUST_DOMAIN)
        security = config.SecuritySettings(directory=self.state.certs, trust_domain=TRUST_DOMAIN)
        return peer_credentials.carrier(me, security, config.LimitSettings())

    def _members(self) -> list[Identity]:
        """Return the identities that need a certificate or an allowlist entry."""
        agents = [f"agent/{each}" for each in self._agent_ids()]
        people = [f"client/{CLIENT}", f"operator/{CLIENT}"]
        names = [f"sync/{SYNC}", f"coordinator/{COORDINATOR}", *people, *agents]
        return [peer_credentials.named(name, TRUST_DOMAIN) for name in names]

    def _agent_ids(self) -> list[str]:
        """Return the ids of all agents."""
        return [f"a{number}" for number in range(1, self.settings.agents + 1)]

    def _plan(self, dsn: str) -> None:
        """Choose ports and environment variables for all children."""
        carrier = self.settings.carrier
        before = "" if carrier == "quic" else f"{carrier}://"
        ports = free_ports(4 + self.settings.agents)
        sync, self.coordinator = (f"{before}127.0.0.1:{port}" for port in ports[:2])
        health = ports[2:]
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
        """Add a child with its settings as environment variables."""
        health = f"127.0.0.1:{port}"
        prefix = f"{config.PREFIX}{verb.upper()}__"
        own_variables = {f"{prefix}{key.upper()}": value for key, value in values.items()}
        own_variables[f"{prefix}TELEMETRY__LISTEN"] = health
        log = self.state.logs / f"{name}.log"
        self.children.append(
            Child(
                name,
                verb,
                {**shared, **own_variables},
                health,
                log,
                self.settings.restarts_max,
                self._news,
            )
        )

    async def _start(self) -> None:
        """Start and watch all children; return when all are ready.

        Unavailable is raised when a child is not ready after ``run.ready_s`` seconds.
        """
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
        """Return when every child is ready."""
        await asyncio.gather(*(child.ready() for child in self.children))

    async def _watch(self) -> None:
        """Watch and restart all processes; end the run when restarts do not help."""
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
        """Restart PostgreSQL whenever it exits, at most ``restarts_max`` times."""
        restarts = 0
        while True:
            status = await self.server.wait()
            restarts += 1
            if restarts > self.settings.restarts_max:
                raise Unavailable(f"PostgreSQL ended {restarts} times; see {self.server.log}")
            self._news(f"PostgreSQL ended with status {status}; restarting it")
            await self.server.start()

    async def _stop(self) -> None:
        """Stop agents, coordinator, sync and PostgreSQL, in this order: each needs the next."""
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
    """Return the kinds of processes that are configured to keep their key in memory."""
    services: dict[Kind, type[SyncSettings | CoordinatorSettings | AgentSettings]] = {
        Kind.SYNC: SyncSettings,
        Kind.COORDINATOR: CoordinatorSettings,
        Kind.AGENT: AgentSettings,
    }
    settings_of = {
        kind: config.load(section, config_file=config_file) for kind, section in services.items()
    }
    return {kind for kind, each in settings_of.items() if each.security.key == "memory"}


def free_ports(count: int) -> list[int]:
    """Return different ports that are free now, for TCP and for UDP.

    All are below the ports that the system gives to outgoing connections. Otherwise a connection
    could take a chosen port before a process of the fleet listens on it.
    """
    with contextlib.ExitStack() as bound:
        return [_free_port(bound) for _ in range(count)]


def _free_port(bound: contextlib.ExitStack) -> int:
    """Return a free port. `bound` holds its sockets open, so that the next call finds another."""
    for _ in range(PORT_TRIES):
        port = _RANDOM.choice(PORTS)
        try:
            with contextlib.ExitStack() as both:
                for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
                    probe = both.enter_context(socket.socket(socket.AF_INET, kind))
                    probe.bind(("127.0.0.1", port))
                bound.push(both.pop_all())
                return port
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise Unavailable(f"cannot listen on 127.0.0.1:{port}: {error}") from error
    raise Unavailable(
        f"no free port found in {PORT_TRIES} tries between {PORTS.start} and {PORTS.stop - 1}:"
        " end what listens there"
    )
