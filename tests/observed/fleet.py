"""Runs every process that has metrics on one machine, with the targets for Prometheus.

    async with fleet.observed(folder) as seen, prometheus.running(data, seen.targets()) as asked:
        await asked.all_up()

The processes are the two syncs, two coordinators and three agents of `tests.rolling.fleet`, their
database, and a client that sends requests of which some are refused (`load`). Two replicas of the
operator run against `tests.support.api_server`, with pods that request certificates and an agent
pool. The ``pod`` label of a target is the name of its process, such as s1 for a sync, p1 for the
database or u1 for the client. The name stays the same when the process restarts.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from midstreamer.cli import child_processes, exit_with_parent, state_folder
from midstreamer.cli.local_fleet import TRUST_DOMAIN, free_ports
from midstreamer.cli.peer_credentials import ALLOWLIST
from midstreamer.cli.state_folder import StateFolder
from midstreamer.domain import identity, shard
from midstreamer.domain.identity import Kind
from midstreamer.security import files
from midstreamer_operator.resources import agentpools
from tests.load import client_requests
from tests.observed import load
from tests.observed.database import ID as DATABASE
from tests.observed.database import PostgresProcess
from tests.rolling.fleet import Fleet
from tests.rolling.plan import MEMBERS, SYNC, Version
from tests.support import programs
from tests.support.api_over_https import Served, served
from tests.support.api_server import ApiServer
from tests.support.operator_builders import NAMESPACE, RELEASE, UID, csr_pem, posted, uri
from tests.support.prometheus import Target

ROOT = Path(__file__).parents[2]
CLIENT = "u1"
MORE = "client/more-*"
"""Entry of the allowlist that admits further clients; some tests certify and run such clients."""
REPLICAS = ("operator-0", "operator-1")
READY_S = 120.0
POLL_S = 0.05
ASKED_S, ASKED_SELDOM_S = 1.0, 4.0
"""Seconds between a pod's signing requests: `ASKED_S` with ``rogues``, else `ASKED_SELDOM_S`.

A fleet without ``rogues`` may run for long, and a pod may have at most 512 valid certificates. So
the pod asks less often there.
"""
APPENDS_PER_S, MATCHES_PER_S = 5.0, 5.0


@dataclass
class Beside:
    """A process beside the fleet's members: a client, or a replica of the operator."""

    name: str
    component: str
    words: Sequence[str]
    """The module that Python runs, and its arguments."""
    health: str
    log: Path
    process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Start the process; its output goes to its log."""
        self.process = await programs.start(
            sys.executable,
            "-m",
            *self.words,
            log=self.log,
            cwd=ROOT,
            env={**os.environ, exit_with_parent.VARIABLE: str(os.getpid())},
        )

    async def ready(self) -> None:
        """Wait until the readiness probe succeeds; on failure raise AssertionError."""
        assert self.process is not None
        try:
            async with asyncio.timeout(READY_S):
                while not await child_processes.probe(self.health, "/readyz"):
                    if self.process.returncode is not None:
                        raise AssertionError(f"{self.name} ended: {self.last_words()}")
                    await asyncio.sleep(POLL_S)
        except TimeoutError:
            message = f"{self.name} was not ready within {READY_S:g} s: {self.last_words()}"
            raise AssertionError(message) from None

    async def end(self, how: signal.Signals = signal.SIGTERM) -> None:
        """Signal the process, wait for its end, and kill it when that takes too long."""
        if self.process is not None:
            await programs.end(self.process, how)

    def last_words(self) -> str:
        """Return the end of the process's log."""
        return programs.last_words(self.log)


@dataclass
class Observed:
    """The running fleet, its database, its operator and its client."""

    fleet: Fleet
    database: PostgresProcess
    cluster: Served
    """The test's API server, with which the operator works."""
    beside: dict[str, Beside] = field(default_factory=dict)

    def targets(self) -> list[Target]:
        """Return every metrics endpoint as a target, with the labels it has in a cluster."""
        members = [
            Target(place.health, MEMBERS[name], name) for name, place in self.fleet.places.items()
        ]
        others = [Target(each.health, each.component, each.name) for each in self.beside.values()]
        return [*members, Target(self.database.health, "postgres", DATABASE), *others]

    def pid(self, name: str) -> int:
        """Return the process id of the process with this name."""
        if name == DATABASE:
            process = self.database.child.process
        elif name in self.beside:
            process = self.beside[name].process
        else:
            member = self.fleet.places[name].child
            process = member.process if member else None
        assert process is not None, f"{name} does not run"
        return process.pid

    async def end(self, name: str, how: signal.Signals = signal.SIGTERM) -> None:
        """End the process with this name, and do not restart it."""
        if name == DATABASE:
            await self.database.end(how)
        elif name in self.beside:
            await self.beside[name].end(how)
        else:
            await self.fleet.end(name, how)

    async def begin(self, name: str) -> None:
        """Start the process again at the same address, and wait until it is ready."""
        if name == DATABASE:
            await self.database.start()
        elif name in self.beside:
            await self.beside[name].start()
            await self.beside[name].ready()
        else:
            await self.fleet.begin(name, Version.NEW)
            await self.fleet.whole()


@asynccontextmanager
async def observed(
    folder: Path,
    *,
    settings: Mapping[str, Mapping[str, str]] | None = None,
    appends_per_s: float = APPENDS_PER_S,
    matches_per_s: float = MATCHES_PER_S,
    rogues: bool = True,
    news: Callable[[str], None] = lambda _: None,
) -> AsyncIterator[Observed]:
    """A complete fleet under load, removed afterwards.

    ``settings`` adds environment variables for each kind of member, as in
    ``{"coordinator": {"REQUESTS_MAX": "8"}}``. With ``rogues`` there are also requests that must be
    refused: from a client that is not allowed, from a client that sends forbidden frames, and from
    a pod that claims another pod's name. Raise AssertionError with the end of the log of a process
    that does not start.
    """
    with state_folder.held(folder / "state") as place:
        database = PostgresProcess(place, news)
        given = {kind: dict(more) for kind, more in (settings or {}).items()}
        given[SYNC] = database.settings_of_sync | given.get(SYNC, {})
        versions = dict.fromkeys(MEMBERS, Version.NEW)
        members = Fleet(place, versions, news, settings=given, clients=(CLIENT,))
        members.server = database
        _let_in(place)
        try:
            (folder / "account").mkdir()
            async with members, a_cluster(folder / "account") as cluster:
                seen = Observed(members, database, cluster)
                rates = appends_per_s, matches_per_s
                async with _beside(seen, rates, rogues), _asking(cluster, rogues):
                    members.shards = shard.REPLICAS * client_requests.SERIES
                    await members.whole()
                    yield seen
        finally:
            await database.erase()


def _let_in(place: StateFolder) -> None:
    """Allow `CLIENT` and `MORE` to append; issue a certificate to a client that is not allowed."""
    files.init_authority(place.certs, TRUST_DOMAIN)
    granted = [
        f"{each}  universes={client_requests.UNIVERSE}" for each in (f"client/{CLIENT}", MORE)
    ]
    files.write_allowlist(place.certs / ALLOWLIST, granted)
    stranger = identity.make(TRUST_DOMAIN, Kind.CLIENT, load.STRANGER.partition("/")[2])
    files.issue(files.open_authority(place.certs), stranger, place.certs)


@asynccontextmanager
async def _beside(seen: Observed, rates: tuple[float, float], rogues: bool) -> AsyncIterator[None]:
    """Start the client and the replicas of the operator; end them after the caller's block.

    The block begins when all of them are ready.
    """
    logs, members = seen.fleet.state.logs, seen.fleet
    health = [f"127.0.0.1:{port}" for port in free_ports(1 + len(REPLICAS))]
    client = {
        "identity": f"client/{CLIENT}",
        "certs": str(members.state.certs),
        "addresses": ",".join(members.coordinators(Version.NEW)),
        "listen": health[0],
        "appends-per-s": str(rates[0]),
        "matches-per-s": str(rates[1]),
        "rogues": str(int(rogues)),
    }
    several = [_process(CLIENT, "client", "tests.observed.load", client, logs)]
    for name, listen in zip(REPLICAS, health[1:], strict=True):
        account = seen.cluster.account("admin", name=name)
        arguments = {
            "port": str(seen.cluster.port),
            "account": str(account.directory),
            "pod": name,
            "listen": listen,
        }
        several.append(_process(name, "operator", "tests.observed.operator", arguments, logs))
    seen.beside = {each.name: each for each in several}
    try:
        await asyncio.gather(*(each.start() for each in several))
        await asyncio.gather(*(each.ready() for each in several))
        yield
    finally:
        await asyncio.gather(*(each.end() for each in several))


def _process(
    name: str, component: str, module: str, arguments: Mapping[str, str], logs: Path
) -> Beside:
    words = [module, *(word for key, value in arguments.items() for word in (f"--{key}", value))]
    return Beside(name, component, words, arguments["listen"], logs / f"{name}.log")


# --- a cluster ------------------------------------------------------------------------------------


@asynccontextmanager
async def a_cluster(directory: Path) -> AsyncIterator[Served]:
    """Run an API server with the objects of an installation: pod, pod template and agent pool."""
    server, name = ApiServer(), f"{RELEASE}-agent"
    server.pod(NAMESPACE, "agent-0", "mid-agent", uid=UID)
    template = {"spec": {"containers": [{"name": "agent", "image": "agent:1"}]}}
    templates = f"/api/v1/namespaces/{NAMESPACE}/podtemplates"
    server.put(templates, {"metadata": {"name": name}, "template": template})
    pool = {"metadata": {"name": name}, "spec": {"fleet": RELEASE, "replicas": len(REPLICAS)}}
    server.put(agentpools.path(NAMESPACE), pool)
    async with served(server, directory) as here:
        yield here


def pods_ready(server: ApiServer, *, share: int = 1) -> None:
    """Set each Deployment's status as a cluster does: all pods ready, or none if ``share=0``."""
    path = f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments"
    for deployment in server.all(path):
        count = deployment["spec"].get("replicas", 1) * share
        replicas = dict.fromkeys(("replicas", "updatedReplicas", "readyReplicas"), count)
        seen = {"observedGeneration": deployment["metadata"].get("generation", 1)}
        server.put(path, {**deployment, "status": {**replicas, **seen}})


@asynccontextmanager
async def _asking(cluster: Served, rogues: bool) -> AsyncIterator[None]:
    """During the caller's block, send the signing requests of one pod.

    With ``rogues`` this pod also sends signing requests with the identity of another pod.
    """
    stranger = csr_pem(uri(pod="agent-1"))

    async def ask() -> None:
        while True:
            posted(cluster.server)
            if rogues:
                posted(cluster.server, stranger)
            await asyncio.sleep(ASKED_S if rogues else ASKED_SELDOM_S)

    task = asyncio.create_task(ask())
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
