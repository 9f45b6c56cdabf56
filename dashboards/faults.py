"""Faults that make alerts fire; each is a context manager over a running fleet.

    async with fault.make(world): ...    # the fault exists in this block, and is removed after it

One fault may make several alerts fire.  Processes are stopped by their process id.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import resource
import shutil
import signal
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

from dashboards.fault_environment import (
    AGENTS,
    COORDINATORS,
    SYNCS,
    Fault,
    Make,
    World,
    again,
    begin,
    meanwhile,
)
from dashboards.packet_loss_fault import lossy
from midstreamer import AsyncClient, Tick
from midstreamer.cli import peer_credentials
from midstreamer.cli.local_fleet import TRUST_DOMAIN
from midstreamer.cli.peer_credentials import ALLOWLIST
from midstreamer.domain.errors import MidstreamerError
from midstreamer.security import files
from tests.load.client_requests import UNIVERSE, time_at
from tests.observed.database import ID as DATABASE
from tests.observed.fleet import CLIENT, REPLICAS, pods_ready
from tests.observed.load import STRANGER, Asking, Refuted
from tests.rolling.plan import Version
from tests.support.api_server import User
from tests.support.operator_builders import csr_pem, posted, uri

FROZEN_S, AWAKE_S = 1.5, 1.0
"""Seconds for which `halting` freezes processes, and seconds for which it then lets them run."""
FLOOD, FLOODED_S = 8_000, 0.3
"""Datagrams of a flood; seconds for which coordinators stay frozen after it, and then run."""
STORM_S, STORMS = 0.05, 12
"""Seconds that tasks of `storm` and `appending` wait after a request; number of storm tasks."""
LIVES_S, INTRUDES_S, ASKS_S = 2.0, 1.0, 0.5
"""Seconds that `begun_again`, `intruding` and `asked_wrongly` wait before they repeat the fault."""
DAY_S = 86_400.0


# --- processes ------------------------------------------------------------------------------------


def killed(*names: str) -> Make:
    """Return a fault: the named processes are killed, and started when the fault is removed."""

    @asynccontextmanager
    async def make(world: World) -> AsyncIterator[None]:
        for name in names:
            await world.seen.end(name, signal.SIGKILL)
        try:
            yield
        finally:
            for name in names:
                await begin(world, name)
            await world.seen.fleet.whole()

    return make


@contextlib.contextmanager
def stopped(pids: list[int]) -> Iterator[None]:
    """Freeze the processes with these ids with SIGSTOP while the block runs."""
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


@asynccontextmanager
async def syncs_frozen(world: World) -> AsyncIterator[None]:
    """Fault: both syncs are frozen; their connections stay open."""
    with stopped([world.seen.pid(name) for name in SYNCS]):
        yield


def halting(*names: str) -> Make:
    """Return a fault: processes are frozen repeatedly for `FROZEN_S`, so that they answer late."""

    @asynccontextmanager
    async def make(world: World) -> AsyncIterator[None]:
        async def halt() -> None:
            with stopped([world.seen.pid(name) for name in names]):
                await asyncio.sleep(FROZEN_S)
            await asyncio.sleep(AWAKE_S)

        async with meanwhile(halt):
            yield

    return make


@asynccontextmanager
async def flooded(world: World) -> AsyncIterator[None]:
    """Fault: coordinators are frozen repeatedly, and datagrams overflow their socket buffers.

    They must be frozen, because a running coordinator reads faster than one sender sends.
    """
    pids = [world.seen.pid(name) for name in COORDINATORS]
    addresses = [world.seen.fleet.places[name].plain for name in COORDINATORS]

    async def once() -> None:
        with stopped(pids):
            for address in addresses:
                await asyncio.to_thread(pour, address)
            await asyncio.sleep(FLOODED_S)
        await asyncio.sleep(FLOODED_S)

    async with meanwhile(once):
        yield


def pour(address: str) -> None:
    """Send `FLOOD` datagrams of 1,200 zero bytes to an address; these are no valid QUIC packets."""
    host, _, port = address.rpartition(":")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
        for _ in range(FLOOD):
            out.sendto(bytes(1_200), (host, int(port)))


@asynccontextmanager
async def begun_again(world: World) -> AsyncIterator[None]:
    """Fault: an agent is started again and again, and killed shortly after each start."""

    async def once() -> None:
        await world.seen.end("a3", signal.SIGKILL)
        await world.seen.begin("a3")
        await asyncio.sleep(LIVES_S)

    try:
        async with meanwhile(once):
            yield
    finally:
        await world.seen.end("a3", signal.SIGKILL)
        await world.seen.begin("a3")


@asynccontextmanager
async def database_stopped(world: World) -> AsyncIterator[None]:
    """Fault: PostgreSQL is down. An agent and a sync start without it, and appends fill a queue."""
    await world.seen.end(DATABASE)
    await world.seen.end("a3", signal.SIGKILL)
    await world.seen.end("s2", signal.SIGKILL)
    await begin(world, "s2")
    await begin(world, "a3")
    try:
        # One identity may use half of a queue at most, so two clients are needed to fill it.
        async with appending(world, "more-1"), appending(world, "more-2"):
            yield
    finally:
        await world.seen.begin(DATABASE)
        await world.seen.fleet.whole()


@asynccontextmanager
async def appending(world: World, name: str) -> AsyncIterator[None]:
    """Run an additional client that keeps twenty appends in flight at one coordinator."""
    me = peer_credentials.named(f"client/{name}", TRUST_DOMAIN)
    files.issue(files.open_authority(world.certs), me, world.certs)
    address = world.seen.fleet.coordinators(Version.NEW)[:1]
    connecting = AsyncClient.connect(
        address, directory=world.certs, identity=f"client/{name}", deadline_s=60.0
    )
    numbers = itertools.count()

    async with connecting as client:

        async def append() -> None:
            number = next(numbers)
            tick = Tick(f"{UNIVERSE}/{name}-{number % 20}", time_at(number), 1.0)
            with contextlib.suppress(MidstreamerError):
                await client.append([tick])
            await asyncio.sleep(STORM_S)

        async with meanwhile(append, 20):
            yield


def outcomes_against(refuted: Refuted) -> Make:
    """Return a fault: outcomes are the opposite of these forecasts, and outside their intervals."""

    @asynccontextmanager
    async def make(world: World) -> AsyncIterator[None]:
        os.kill(world.seen.pid(CLIENT), refuted.value)
        try:
            yield
        finally:
            os.kill(world.seen.pid(CLIENT), Refuted.NONE.value)

    return make


@asynccontextmanager
async def spans_go_nowhere(world: World) -> AsyncIterator[None]:
    """Fault: the coordinators export spans to a collector that does not exist."""
    settings: Any = world.seen.fleet.settings
    before = settings["coordinator"]
    exporting = {"TELEMETRY__TRACES": "otlp", "TELEMETRY__TRACES_ENDPOINT": "http://127.0.0.1:1"}
    settings["coordinator"] = before | exporting
    for name in COORDINATORS:  # all of them: any one may get the client's requests
        await again(world, name)
    try:
        yield
    finally:
        settings["coordinator"] = before
        for name in COORDINATORS:
            await again(world, name)


@asynccontextmanager
async def few_files(world: World) -> AsyncIterator[None]:
    """Fault: an agent may open only four more files than now; that is enough for scrapes."""
    pid = world.seen.pid("a1")
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    opened = len(os.listdir(f"/proc/{pid}/fd"))
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (opened + 4, before[1]))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, before)


@asynccontextmanager
async def nothing_watched(world: World) -> AsyncIterator[None]:
    """Fault: the configuration of Prometheus has no target at all."""
    await world.asked.watch([])
    try:
        yield
    finally:
        await world.asked.watch(world.seen.targets())


# --- certificates ---------------------------------------------------------------------------------


@asynccontextmanager
async def not_renewed(world: World) -> AsyncIterator[None]:
    """Fault: the certificate of an agent expires in two minutes and cannot be renewed.

    The key of the authority is moved away, so that no new certificate can be issued.
    """
    me = peer_credentials.named("agent/a1", TRUST_DOMAIN)
    authority = files.open_authority(world.certs)
    hidden = world.folder / "authority.pem"
    shutil.move(files.authority_path(world.certs), hidden)
    began_s = time.time() - 3_600
    files.issue(authority, me, world.certs, days=3_720 / DAY_S, now=lambda: began_s)
    try:
        yield
    finally:
        shutil.move(hidden, files.authority_path(world.certs))
        files.issue(authority, me, world.certs)


@asynccontextmanager
async def allowlist_wrong(world: World) -> AsyncIterator[None]:
    """Fault: the allowlist of the fleet contains a line that is not valid."""
    path = world.certs / ALLOWLIST
    before = path.read_bytes()
    path.write_bytes(b"nobody/knows what this is\x00\n")
    try:
        yield
    finally:
        path.write_bytes(before)


@asynccontextmanager
async def another_bundle(world: World) -> AsyncIterator[None]:
    """Fault: one agent trusts an additional authority, which expires in twelve hours."""
    own, other = world.folder / "certs-of-a3", world.folder / "other"
    shutil.copytree(world.certs, own)
    files.init_authority(other, TRUST_DOMAIN, days=0.5)
    bundle = files.trust_path(own)
    bundle.write_bytes(bundle.read_bytes() + files.trust_path(other).read_bytes())
    agents: Any = world.seen.fleet.settings
    agents["agent"] = {"SECURITY__DIRECTORY": str(own)}
    await again(world, "a3")
    try:
        yield
    finally:
        del agents["agent"]
        await again(world, "a3")


# --- clients --------------------------------------------------------------------------------------


def storm(identity: str) -> Make:
    """Return a fault: clients with this identity connect, ask and disconnect without end."""

    @asynccontextmanager
    async def make(world: World) -> AsyncIterator[None]:
        async def visit() -> None:
            connecting = AsyncClient.connect(
                world.seen.fleet.coordinators(Version.NEW)[:1],
                directory=world.certs,
                identity=identity,
                deadline_s=1.0,
            )
            with contextlib.suppress(MidstreamerError):
                async with connecting as client:
                    await client.members()
            await asyncio.sleep(STORM_S)

        async with meanwhile(visit, STORMS):
            yield

    return make


@asynccontextmanager
async def intruding(world: World) -> AsyncIterator[None]:
    """Fault: a client sends frames that only a coordinator may send."""
    arguments: Any = SimpleNamespace(
        certs=str(world.certs),
        identity=f"client/{CLIENT}",
        addresses=",".join(world.seen.fleet.coordinators(Version.NEW)),
    )
    nobody: Any = None
    asking = Asking(nobody, arguments)

    async def intrude() -> None:
        await asking.intrude(0.0)
        await asyncio.sleep(INTRUDES_S)

    async with meanwhile(intrude):
        yield


# --- the operator ---------------------------------------------------------------------------------


def refusing(allows: Callable[[User, str, str], bool]) -> Make:
    """Return a fault: the API server permits only the requests for which ``allows`` is true."""

    @asynccontextmanager
    async def make(world: World) -> AsyncIterator[None]:
        server = world.seen.cluster.server
        before = server.allows
        server.allows = allows
        try:
            yield
        finally:
            server.allows = before

    return make


@asynccontextmanager
async def asked_wrongly(world: World) -> AsyncIterator[None]:
    """Fault: a pod requests a certificate for another pod."""

    async def ask() -> None:
        posted(world.seen.cluster.server, csr_pem(uri(pod="agent-1")))
        await asyncio.sleep(ASKS_S)

    async with meanwhile(ask):
        yield


@asynccontextmanager
async def no_pods(world: World) -> AsyncIterator[None]:
    """Fault: no pod of a pool is ready."""
    pods_ready(world.seen.cluster.server, share=0)
    try:
        yield
    finally:
        pods_ready(world.seen.cluster.server)


def _pods_alone(user: User, verb: str, path: str) -> bool:
    return user.username.startswith("system:serviceaccount:")


def _answers_nothing(user: User, verb: str, path: str) -> bool:
    return verb not in ("PUT", "PATCH") or "certificatesigningrequests" not in path


FAULTS = (
    # These two come first. Their alerts judge the outcomes of a whole day. Normal outcomes, which
    # the series have during all other faults, would count too, and the alerts would fire later.
    Fault("all forecasts fail", ("CoverageOff",), outcomes_against(Refuted.ALL), 420.0),
    Fault("confident forecasts fail", ("LicenceLost",), outcomes_against(Refuted.CONFIDENT), 420.0),
    Fault("an agent is killed", ("ProcessDown",), killed("a3")),
    Fault("all agents but one are killed", ("ShardsUnderreplicated",), killed("a2", "a3")),
    Fault("every agent is killed", ("ShardsUnheld", "Incomplete"), killed(*AGENTS)),
    Fault("every coordinator is killed", ("ComponentAbsent",), killed(*COORDINATORS)),
    Fault(
        "PostgreSQL is stopped",
        (
            "PostgresDown",
            "CommitsFail",
            "QueueFull",
            "QueueOld",
            "StageStuck",
            "AvailabilityBurn",
            "AvailabilityBurnSlow",
        ),
        database_stopped,
    ),
    Fault("spans are exported to no collector", ("SpansDropped",), spans_go_nowhere),
    Fault("both syncs are frozen", ("FeedLag",), syncs_frozen),
    Fault("agents halt", ("LatencyBurn", "LatencyBurnSlow"), halting(*AGENTS)),
    Fault("a coordinator halts", ("LoopLag",), halting("c1")),
    Fault("halting coordinators are flooded with datagrams", ("UdpDropped",), flooded),
    Fault("the network loses packets of the coordinators", ("QuicLoss",), lossy),
    Fault("an agent restarts again and again", ("CrashLoop",), begun_again),
    Fault("an agent may open few more files", ("OpenFiles",), few_files, within_s=180.0),
    Fault("Prometheus has no target", ("TelemetryAbsent",), nothing_watched),
    Fault("a certificate is not renewed", ("CertificateExpires", "RenewalStuck"), not_renewed),
    Fault("the allowlist is invalid", ("SecurityFileWrong",), allowlist_wrong),
    Fault("an agent trusts another bundle", ("BundleSkew", "AuthorityExpires"), another_bundle),
    Fault("a client without permission connects", ("HandshakesRefused",), storm(STRANGER)),
    Fault("a client connects and disconnects", ("ReconnectStorm",), storm(f"client/{CLIENT}")),
    Fault("a client sends forbidden frames", ("FramesDenied",), intruding),
    Fault("no operator runs", ("NoOperatorLeader",), killed(*REPLICAS)),
    Fault("the API server refuses all requests", ("OperatorStale",), refusing(_pods_alone)),
    Fault(
        "no signing request can be answered",
        ("SigningRequestsWaiting", "TaskFailures"),
        refusing(_answers_nothing),
    ),
    Fault("a pod pretends to be another pod", ("SigningRequestsRefused",), asked_wrongly),
    Fault("no pod of a pool is ready", ("PoolShort",), no_pods),
)
