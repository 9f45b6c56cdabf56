"""Event handlers for kopf: they decide nothing and only pass events on.

kopf watches the signing requests of the cluster; those for the installation's signers go to
`Signer.handle`.  In the installation's namespace kopf watches pools, their Deployments and the
PodTemplate of agents; a change of any of these objects calls `Pools.wake`.  kopf stores nothing in
these objects, neither annotations nor finalizers, because handlers of the type `kopf.on.event` need
none.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, cast

import kopf
from kopf._cogs.structs.credentials import Vault

from midstreamer.cluster.service_account import Account
from midstreamer.runtime import tasks
from midstreamer_operator.pool_reconciler import Pools
from midstreamer_operator.resources import agentpools, deployments, signing_requests
from midstreamer_operator.signing_reconciler import Signer

LEFT_S = 0.2
"""Seconds to wait for cancelled tasks that kopf left behind; some of them never end."""
GROUP, VERSION, PLURAL = "certificates.k8s.io", "v1", "certificatesigningrequests"


def registry(signer: Signer, pools: Pools, account: Account) -> kopf.OperatorRegistry:
    """Return the registry of kopf with the handlers of one operator."""
    handlers = kopf.OperatorRegistry()

    @kopf.on.login(registry=handlers)
    def login(**_: Any) -> kopf.ConnectionInfo:
        return connection(account)

    @kopf.on.event(GROUP, VERSION, PLURAL, registry=handlers, when=_is_for(signer.policy.signers))
    async def requested(event: kopf.RawEvent, **_: Any) -> None:
        await signer.handle(dict(event["object"]))

    @kopf.on.event(
        agentpools.GROUP, agentpools.VERSION, agentpools.PLURAL, registry=handlers,
        when=lambda body, **_: (body.get("spec") or {}).get("fleet") == pools.fleet,
    )  # fmt: skip
    @kopf.on.event(
        "apps", "v1", "deployments", registry=handlers, labels={agentpools.LABEL: kopf.PRESENT}
    )
    @kopf.on.event(
        "", "v1", "podtemplates", registry=handlers,
        when=lambda name, **_: name == deployments.template_name(pools.fleet),
    )  # fmt: skip
    async def pool_changed(**_: Any) -> None:
        pools.wake()

    return handlers


def connection(account: Account) -> kopf.ConnectionInfo:
    """Return the API server's address, and the token with which kopf logs in there.

    When the token has expired, kopf calls the login handler of `registry`, which calls this
    function again.
    """
    return kopf.ConnectionInfo(
        server=account.server,
        ca_path=str(account.authority_path),
        scheme="Bearer",
        token=account.token(),
        default_namespace=account.namespace,
    )


def settings() -> kopf.OperatorSettings:
    """Return the settings of kopf itself, not those of the operator."""
    kopf_settings = kopf.OperatorSettings()
    kopf_settings.scanning.disabled = True  # else kopf watches every CustomResourceDefinition
    kopf_settings.posting.enabled = False  # the operator writes its own Events, in `api_writes`
    # A watch whose connection dies silently is restarted by these timeouts: the API server ends
    # it after 120 s, the client after 150 s.  The API server accepts only an int, not 120.0.
    kopf_settings.watching.server_timeout, kopf_settings.watching.client_timeout = 120, 150
    kopf_settings.watching.connect_timeout = 5.0
    kopf_settings.networking.request_timeout = 10.0
    # kopf retries a failed request after each of these pauses, and then fails. Then `leadership`
    # reports the fault and starts kopf again. With its default pauses kopf would retry for a minute
    # first.
    kopf_settings.networking.error_backoffs = (0.25, 0.5, 1.0, 2.0)
    # By default kopf kills this process ten minutes after kopf begins to shut down. But this
    # process may live on and start kopf again, so it must not be killed.
    kopf_settings.process.ultimate_exiting_timeout = None
    return kopf_settings


async def run(signer: Signer, pools: Pools, account: Account, *, begun: Callable[[], None]) -> None:
    """Run kopf until cancelled; call ``begun`` once kopf has installed its signal handlers.

    This function starts and ends kopf's tasks itself.  It does not use `kopf.operator`, which at
    its end cancels all tasks that began after it, even those that are not kopf's.  A task of kopf
    that ends before it is cancelled has failed, and its exception is raised here.
    """
    vault = Vault()
    started = await kopf.spawn_tasks(
        registry=registry(signer, pools, account),
        vault=vault,
        settings=settings(),
        # Without this, kopf would use the name of the Unix user as its identity, and the user in a
        # container may have no name.
        identity=cast("Any", "midstreamer-operator"),
        # kopf watches signing requests although kopf is restricted to one namespace, because
        # signing requests are cluster-scoped.
        namespaces=[pools.namespace],
        standalone=True,
    )
    begun()
    try:
        ended, _ = await asyncio.wait(started, return_when=asyncio.FIRST_COMPLETED)
        for task in ended:
            task.result()
    finally:
        try:
            await tasks.ended(started)
        finally:
            # kopf's scan of the API starts tasks, and these tasks open connections. When the scan
            # is cancelled, the tasks continue. Cancel them, because nobody else would close the
            # connections.
            if left := _left():
                for task in left:
                    task.cancel()
                await asyncio.wait(left, timeout=LEFT_S)
            await vault.close()


def _left() -> list[asyncio.Task[Any]]:
    """Return the tasks of this event loop that run code of kopf, no matter who started them."""
    home = str(Path(kopf.__file__).parent)
    code = ((task, getattr(task.get_coro(), "cr_code", None)) for task in asyncio.all_tasks())
    return [task for task, each in code if each and each.co_filename.startswith(home)]


def _is_for(wanted: Collection[str]) -> Callable[..., bool]:
    """Return a filter of events for kopf.

    It accepts an event about a signing request for one of the signers ``wanted``, unless the event
    says that the request was deleted.
    """

    def when(body: kopf.Body, type: str | None, **_: Any) -> bool:
        return type != "DELETED" and signing_requests.signer_of(body) in wanted

    return when
