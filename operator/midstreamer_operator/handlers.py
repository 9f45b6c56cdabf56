"""What kopf calls: nothing is decided or done here, only passed on.

kopf watches the signing requests of the cluster; those of our signers go to `reconcile`.  In our
namespace it watches pools, their Deployments and the template of agents, and wakes `pools`.  It
keeps nothing in any of them: no annotation, no finalizer, as `on.event` has none.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, cast

import kopf
from kopf._cogs.structs.credentials import Vault

from midstreamer.cluster.account import Account
from midstreamer.runtime import tasks
from midstreamer_operator.pools import Pools
from midstreamer_operator.reconcile import Signer
from midstreamer_operator.resources import agentpools, deployments, requests

LEFT_S = 0.2
"""How long tasks that kopf leaves behind may take to end: some never do."""
GROUP, VERSION, PLURAL = "certificates.k8s.io", "v1", "certificatesigningrequests"


def registry(signer: Signer, pools: Pools, account: Account) -> kopf.OperatorRegistry:
    """The handlers of one operator."""
    made = kopf.OperatorRegistry()

    @kopf.on.login(registry=made)
    def login(**_: Any) -> kopf.ConnectionInfo:
        return connection(account)

    @kopf.on.event(GROUP, VERSION, PLURAL, registry=made, when=_is_for(signer.policy.signers))
    async def requested(event: kopf.RawEvent, **_: Any) -> None:
        await signer.attend(dict(event["object"]))

    @kopf.on.event(
        agentpools.GROUP, agentpools.VERSION, agentpools.PLURAL, registry=made,
        when=lambda body, **_: (body.get("spec") or {}).get("fleet") == pools.fleet,
    )  # fmt: skip
    @kopf.on.event(
        "apps", "v1", "deployments", registry=made, labels={agentpools.LABEL: kopf.PRESENT}
    )
    @kopf.on.event(
        "", "v1", "podtemplates", registry=made,
        when=lambda name, **_: name == deployments.template_name(pools.fleet),
    )  # fmt: skip
    async def pool_changed(**_: Any) -> None:
        pools.wake()

    return made


def connection(account: Account) -> kopf.ConnectionInfo:
    """How kopf reaches the API server; it asks again when the token has expired."""
    return kopf.ConnectionInfo(
        server=account.server,
        ca_path=str(account.authority_path),
        scheme="Bearer",
        token=account.token(),
        default_namespace=account.namespace,
    )


def settings() -> kopf.OperatorSettings:
    """kopf's own settings."""
    made = kopf.OperatorSettings()
    made.scanning.disabled = True  # it would list and watch every CustomResourceDefinition
    made.posting.enabled = False  # events are written by `act`, with words of ours
    # A watch that dies silently is begun again: by the server's end of it, else by ours.
    # The API server refuses a fraction of a second, even of none.
    made.watching.server_timeout, made.watching.client_timeout = 120, 150
    made.watching.connect_timeout = 5.0
    made.networking.request_timeout = 10.0
    # After these it fails, and `leading` says so and begins it anew; its own go on for a minute.
    made.networking.error_backoffs = (0.25, 0.5, 1.0, 2.0)
    # Else it kills this process ten minutes after any end of its own.
    made.process.ultimate_exiting_timeout = None
    return made


async def run(signer: Signer, pools: Pools, account: Account, *, begun: Callable[[], None]) -> None:
    """Handle events until cancelled; ``begun`` is called when kopf has taken the signals.

    kopf's own way to run would, at its end, wait for every task of this loop and cancel it,
    whosever it is.  So its tasks are begun and ended here.  By themselves they only fail.
    """
    vault = Vault()
    started = await kopf.spawn_tasks(
        registry=registry(signer, pools, account),
        vault=vault,
        settings=settings(),
        # Else it is made of the user's name, and the user of a pod need not have one.
        identity=cast("Any", "midstreamer-operator"),
        # Signing requests are of no namespace, and watched all the same.
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
            # kopf's scan of the API leaves tasks behind when it is cancelled, and these open
            # connections that nobody closes.
            if left := _left():
                for task in left:
                    task.cancel()
                await asyncio.wait(left, timeout=LEFT_S)
            await vault.close()


def _left() -> list[asyncio.Task[Any]]:
    """The tasks that run code of kopf, whoever began them."""
    home = str(Path(kopf.__file__).parent)
    code = ((task, getattr(task.get_coro(), "cr_code", None)) for task in asyncio.all_tasks())
    return [task for task, each in code if each and each.co_filename.startswith(home)]


def _is_for(wanted: Collection[str]) -> Callable[..., bool]:
    def when(body: kopf.Body, type: str | None, **_: Any) -> bool:
        return type != "DELETED" and requests.signer_of(body) in wanted

    return when
