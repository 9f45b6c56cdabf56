"""Everything that can be looked at, on one machine, and how Prometheus finds it.

    async with fleet.observed(folder) as seen, prometheus.running(data, seen.targets()) as asked:
        await asked.all_up()

Two syncs, two coordinators, three agents and the database of `tests.rolling.fleet`, each a process;
a client that asks and is refused (`load`); and, against an API server of a test, two replicas of
the operator with pods that want certificates and a pool.  A target's pod is what its process is
called: s1, c2, a3, p1, u1, operator-0.  It stays the same over the process's lives.
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

from midstreamer.cli import child, parent, state
from midstreamer.cli.identities import ALLOWLIST
from midstreamer.cli.local import TRUST_DOMAIN, free_ports
from midstreamer.cli.state import StateFolder
from midstreamer.domain import identity, shard
from midstreamer.domain.identity import Kind
from midstreamer.security import files
from midstreamer_operator.resources import agentpools
from tests.load import asking
from tests.observed import load
from tests.observed.database import ID as DATABASE
from tests.observed.database import PostgresProcess
from tests.rolling.fleet import Fleet
from tests.rolling.plan import MEMBERS, SYNC, Version
from tests.support import programs
from tests.support.api_over_https import Served, served
from tests.support.api_server import ApiServer
from tests.support.operating import NAMESPACE, RELEASE, UID, csr_pem, posted, uri
from tests.support.prometheus import Target

ROOT = Path(__file__).parents[2]
CLIENT = "u1"
MORE = "client/more-*"
"""Whoever else may come: a fault that takes several clients certifies them."""
REPLICAS = ("operator-0", "operator-1")
READY_S = 120.0
POLL_S = 0.05
ASKED_S, ASKED_SELDOM_S = 1.0, 4.0
"""Between two signing requests of pods, one good and one that is denied; without these, seldom:
a pod may have 512 certificates that are still valid."""
APPENDS_PER_S, MATCHES_PER_S = 5.0, 5.0


@dataclass
class Beside:
    """A process that is no member: a client, a replica of the operator."""

    name: str
    component: str
    words: Sequence[str]
    """What Python is told to run, and with which arguments."""
    health: str
    log: Path
    process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Start it; what it says goes to its log."""
        self.process = await programs.start(
            sys.executable,
            "-m",
            *self.words,
            log=self.log,
            cwd=ROOT,
            env={**os.environ, parent.VARIABLE: str(os.getpid())},
        )

    async def ready(self) -> None:
        """Wait until its probe is well; AssertionError with its last words when it is not."""
        assert self.process is not None
        try:
            async with asyncio.timeout(READY_S):
                while not await child.probe(self.health, "/readyz"):
                    if self.process.returncode is not None:
                        raise AssertionError(f"{self.name} ended: {self.last_words()}")
                    await asyncio.sleep(POLL_S)
        except TimeoutError:
            told = f"{self.name} was not ready within {READY_S:g} s: {self.last_words()}"
            raise AssertionError(told) from None

    async def end(self, how: signal.Signals = signal.SIGTERM) -> None:
        """Signal it, wait for its end, and kill it when that takes too long."""
        if self.process is not None:
            await programs.end(self.process, how)

    def last_words(self) -> str:
        """The end of its log."""
        return programs.last_words(self.log)


@dataclass
class Observed:
    """All that runs."""

    fleet: Fleet
    database: PostgresProcess
    cluster: Served
    """The API server that the operator speaks to."""
    beside: dict[str, Beside] = field(default_factory=dict)

    def targets(self) -> list[Target]:
        """Every endpoint, with the labels that it would have in a cluster."""
        members = [
            Target(place.health, MEMBERS[name], name) for name, place in self.fleet.places.items()
        ]
        others = [Target(each.health, each.component, each.name) for each in self.beside.values()]
        return [*members, Target(self.database.health, "postgres", DATABASE), *others]

    def pid(self, name: str) -> int:
        """The process id of whatever is called so."""
        if name == DATABASE:
            process = self.database.child.process
        elif name in self.beside:
            process = self.beside[name].process
        else:
            one = self.fleet.places[name].child
            process = one.process if one else None
        assert process is not None, f"{name} does not run"
        return process.pid

    async def end(self, name: str, how: signal.Signals = signal.SIGTERM) -> None:
        """End something, and leave it so."""
        if name == DATABASE:
            await self.database.end(how)
        elif name in self.beside:
            await self.beside[name].end(how)
        else:
            await self.fleet.end(name, how)

    async def begin(self, name: str) -> None:
        """Start something again where it was, and wait until it is ready."""
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
    """Everything, whole and under load; nothing of it is left after.

    Without ``rogues`` nobody asks for what he may not have: no stranger, no intruder, no pod that
    says it is another.

    ``settings`` are more of the environment of each kind of member, as
    ``{"coordinator": {"REQUESTS_MAX": "8"}}``.  Raises AssertionError with the last words of
    whatever does not start.
    """
    with state.held(folder / "state") as place:
        database = PostgresProcess(place, news)
        given = {kind: dict(more) for kind, more in (settings or {}).items()}
        given[SYNC] = database.settings_of_sync | given.get(SYNC, {})
        versions = dict.fromkeys(MEMBERS, Version.NEW)
        made = Fleet(place, versions, news, settings=given, clients=(CLIENT,))
        made.server = database
        _let_in(place)
        try:
            (folder / "account").mkdir()
            async with made, a_cluster(folder / "account") as cluster:
                seen = Observed(made, database, cluster)
                rates = appends_per_s, matches_per_s
                async with _beside(seen, rates, rogues), _asking(cluster, rogues):
                    made.shards = shard.REPLICAS * asking.SERIES
                    await made.whole()
                    yield seen
        finally:
            await database.erase()


def _let_in(place: StateFolder) -> None:
    """Let clients in for the universe; certify a stranger, and let it in nowhere."""
    files.init_authority(place.certs, TRUST_DOMAIN)
    granted = [f"{each}  universes={asking.UNIVERSE}" for each in (f"client/{CLIENT}", MORE)]
    files.write_allowlist(place.certs / ALLOWLIST, granted)
    stranger = identity.make(TRUST_DOMAIN, Kind.CLIENT, load.STRANGER.partition("/")[2])
    files.issue(files.open_authority(place.certs), stranger, place.certs)


@asynccontextmanager
async def _beside(seen: Observed, rates: tuple[float, float], rogues: bool) -> AsyncIterator[None]:
    """The client and the replicas, ready; ended after."""
    logs, made = seen.fleet.state.logs, seen.fleet
    health = [f"127.0.0.1:{port}" for port in free_ports(1 + len(REPLICAS), datagram=False)]
    client = {
        "identity": f"client/{CLIENT}",
        "certs": str(made.state.certs),
        "addresses": ",".join(made.coordinators(Version.NEW)),
        "listen": health[0],
        "appends-per-s": str(rates[0]),
        "matches-per-s": str(rates[1]),
        "rogues": str(int(rogues)),
    }
    several = [_process(CLIENT, "client", "tests.observed.load", client, logs)]
    for name, listen in zip(REPLICAS, health[1:], strict=True):
        account = seen.cluster.account("admin", name=name)
        told = {
            "port": str(seen.cluster.port),
            "account": str(account.directory),
            "pod": name,
            "listen": listen,
        }
        several.append(_process(name, "operator", "tests.observed.operator", told, logs))
    seen.beside = {each.name: each for each in several}
    try:
        await asyncio.gather(*(each.start() for each in several))
        await asyncio.gather(*(each.ready() for each in several))
        yield
    finally:
        await asyncio.gather(*(each.end() for each in several))


def _process(name: str, component: str, module: str, told: Mapping[str, str], logs: Path) -> Beside:
    words = [module, *(word for key, value in told.items() for word in (f"--{key}", value))]
    return Beside(name, component, words, told["listen"], logs / f"{name}.log")


# --- a cluster ------------------------------------------------------------------------------------


@asynccontextmanager
async def a_cluster(directory: Path) -> AsyncIterator[Served]:
    """The API server of one installation: a pod, the template of agents, and a pool of them."""
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
    """Say that the pods of every Deployment are ready, or none: without a cluster nobody does."""
    path = f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments"
    for made in server.all(path):
        count = made["spec"].get("replicas", 1) * share
        replicas = dict.fromkeys(("replicas", "updatedReplicas", "readyReplicas"), count)
        seen = {"observedGeneration": made["metadata"].get("generation", 1)}
        server.put(path, {**made, "status": {**replicas, **seen}})


@asynccontextmanager
async def _asking(cluster: Served, rogues: bool) -> AsyncIterator[None]:
    """A pod that asks for a certificate by turns with one that says it is another."""
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
