"""What is missed when a right of the charts is taken away: a row for each, tried in a cluster.

``python -m tests.cluster.missed`` writes the table of docs/explanation/security-in-a-cluster.md.
A right without a row fails a test, and one that nobody misses has to leave the charts.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from docs import charts, figures
from tests.cluster import deeds, host, renders, rights
from tests.cluster.deeds import Deed
from tests.cluster.rights import Right

PAGE = charts.FLEET.parents[1] / "docs/explanation/security-in-a-cluster.md"
CLIENTS = "shop"
"""A namespace with clients, in the renders from which rights are counted."""
SAYS = "`/readyz` of the operator"
KUBECTL = "kubectl"


@dataclass(frozen=True)
class Way:
    """A deed that fails without a right."""

    deed: Deed
    without: str
    """What happens without."""
    told_by: str = SAYS


LISTENS = Deed(deeds.takes_over, steady_s=6.0)
WAYS: dict[str, Way] = {
    "serves": Way(Deed(deeds.serves), "pools of agents are not looked after"),
    "leads": Way(Deed(deeds.serves), "no replica leads"),
    "is the first": Way(Deed(deeds.makes_its_lease), "no replica leads in a new installation"),
    "takes over": Way(Deed(deeds.takes_over), "a replica that takes over does not begin to work"),
    "listens": Way(LISTENS, "what changes is noticed by the next sweep alone"),
    "password": Way(Deed(deeds.makes_the_password), "a new database gets no password"),
    "authority": Way(
        Deed(deeds.publishes_its_authority), "a bundle that lost the authority is not mended"
    ),
    "forgets": Way(Deed(deeds.forgets_what_has_ended), "the ledger grows for ever"),
    "member": Way(Deed(deeds.certifies_an_agent), "no pod of the fleet gets a certificate"),
    "client": Way(Deed(deeds.certifies_a_client), "no pod elsewhere gets a certificate"),
    "person": Way(Deed(deeds.certifies_a_person), "no person gets a certificate"),
    "denies": Way(
        Deed(deeds.denies_a_forger), "a denial stands in the request alone", "no Event at the pod"
    ),
    "pool": Way(
        Deed(deeds.makes_a_pool), "a new pool has no agents", "condition of the AgentPool, or"
        " `/readyz` of the operator",
    ),
    "agent": Way(
        Deed(deeds.starts_an_agent), "a pod that starts waits for ever", "its `/readyz`, an Event"
    ),
    "waits": Way(
        Deed(deeds.tells_that_it_waits), "what a pod waits for is told by its `/readyz` alone",
        "no Event at the pod",
    ),
    "helm test": Way(
        Deed(deeds.helm_tests), "no client of a namespace, and no `helm test`, gets a certificate",
        "`helm test` is red",
    ),
    "installs": Way(
        Deed(deeds.installs), "whoever has `admin` of a namespace cannot install the chart", KUBECTL
    ),
    "creates pools": Way(deeds.creates("edit", "agentpool"), "pools cannot be made", KUBECTL),
    "changes pools": Way(
        deeds.kubectl("edit", "annotate", "POOL", "a=b", "--dry-run=server"),
        "`helm upgrade` and `kubectl edit` fail", KUBECTL,
    ),
    "replaces pools": Way(
        deeds.replaces("edit", "agentpool"), "`helm upgrade --force-replace` fails", KUBECTL
    ),
    "deletes pools": Way(
        deeds.kubectl("edit", "delete", "POOL", "--dry-run=server"), "`helm uninstall` fails",
        KUBECTL,
    ),
    "scales": Way(
        deeds.kubectl("edit", "scale", "POOL", "--replicas=2", "--dry-run=server"),
        "`kubectl scale` fails", KUBECTL,
    ),
    "scales from": Way(
        deeds.kubectl(
            "edit", "scale", "POOL", "--current-replicas=1", "--replicas=1", "--dry-run=server"
        ),
        "`kubectl scale --current-replicas` fails", KUBECTL,
    ),
    "creates templates": Way(
        deeds.creates("edit", "podtemplate"), "`helm install` fails", KUBECTL
    ),
    "changes templates": Way(
        deeds.kubectl("edit", "annotate", "TEMPLATE", "a=b", "--dry-run=server"),
        "`helm upgrade` fails", KUBECTL,
    ),
    "replaces templates": Way(
        deeds.replaces("edit", "podtemplate"), "`helm upgrade --force-replace` fails", KUBECTL
    ),
    "deletes templates": Way(
        deeds.kubectl("edit", "delete", "TEMPLATE", "--dry-run=server"), "`helm uninstall` fails",
        KUBECTL,
    ),
    "sees a pool": Way(deeds.kubectl("view", "get", "POOL"), "nobody sees a pool", KUBECTL),
    "sees a template": Way(
        deeds.kubectl("view", "get", "TEMPLATE"), "nobody sees the template of agents", KUBECTL
    ),
}  # fmt: skip
"""Everything that can fail, by the word that rows call it by."""


@dataclass(frozen=True)
class Row:
    """One right, and what is missed without it."""

    way: str
    told: str = ""
    """A part of what is told; the API server's words about verb and resource unless it is set."""

    def evidence(self, right: Right) -> str:
        """What must be told."""
        return self.told or f'cannot {right.verb} resource "{right.resource}"'


def _rows(role: str, told: dict[str, str]) -> Iterator[tuple[str, Row]]:
    for words, way in told.items():
        name, _, evidence = way.partition(": ")
        yield f"{role}: {words}", Row(name, evidence)


ESCALATES = "attempting to grant RBAC permissions not currently held"
SIGNER = "user not permitted to {} requests with signerName"
ROWS: dict[str, Row] = dict(
    [
        *_rows("operator", {
            "get pods": "member",
            "list pods": "serves",
            "get podtemplates": "serves",
            "list podtemplates": "listens",
            "watch podtemplates": "listens",
            "list agentpools": "serves",
            "watch agentpools": "listens",
            "patch agentpools/status": "pool",
            "create deployments": "pool",
            "get deployments": "serves",
            "list deployments": "listens",
            "patch deployments": "pool",
            "watch deployments": "listens",
            "create configmaps": "member",
            "get configmaps": "takes over",
            "list configmaps": "takes over",
            "update configmaps": "authority",
            "delete configmaps": "forgets",
            "create secrets": "password",
            "get secrets authority": "takes over",
            "get secrets postgres": "takes over",
            "create leases": "is the first",
            "get leases operator": "leads",
            "update leases operator": "leads",
            "create events": "denies: no Event tells of it",
            "list events": "serves",
        }),
        *_rows("cluster operator", {
            "list certificatesigningrequests": "takes over",
            "watch certificatesigningrequests": "listens",
            "update certificatesigningrequests/approval": "member",
            "update certificatesigningrequests/status": "member",
            "approve signers member": f"member: {SIGNER.format('approve')}",
            "sign signers member": f"member: {SIGNER.format('sign')}",
            "approve signers client": f"client: {SIGNER.format('approve')}",
            "sign signers client": f"client: {SIGNER.format('sign')}",
            "get namespaces": "client",
            "create subjectaccessreviews": "person",
        }),
        *_rows("cluster member", {
            "create certificatesigningrequests": "agent",
            "watch certificatesigningrequests": "agent",
        }),
        *_rows("member", {
            "get configmaps trust": "agent",
            "create events": "waits: no Event tells of it",
        }),
        *_rows("cluster client", {
            "create certificatesigningrequests": "helm test",
            "watch certificatesigningrequests": "helm test",
        }),
        *_rows("client", {"get configmaps trust": "helm test"}),
        *_rows("test", {"use clientidentities test": "helm test: must allow the verb use"}),
        *_rows("clientidentities:use", {"use clientidentities": f"installs: {ESCALATES}"}),
        *_rows("agentpools:admin", {"patch agentpools/status": f"installs: {ESCALATES}"}),
        *_rows("agentpools:view", {
            "get agentpools": "sees a pool",
            "list agentpools": f"installs: {ESCALATES}",
            "watch agentpools": f"installs: {ESCALATES}",
            "get podtemplates": "sees a template",
            "list podtemplates": f"installs: {ESCALATES}",
            "watch podtemplates": f"installs: {ESCALATES}",
        }),
        *_rows("agentpools:edit", {
            "create agentpools": "creates pools",
            "patch agentpools": "changes pools",
            "update agentpools": "replaces pools",
            "delete agentpools": "deletes pools",
            "patch agentpools/scale": "scales",
            "get agentpools/scale": "scales from",
            "update agentpools/scale": "scales from",
            "create podtemplates": "creates templates",
            "patch podtemplates": "changes templates",
            "update podtemplates": "replaces templates",
            "delete podtemplates": "deletes templates",
        }),
    ]
)  # fmt: skip
"""Every right of both charts, as `Right.told` calls it."""


def rendered(
    namespace: str = renders.NAMESPACE, release: str = renders.RELEASE, client: str = CLIENTS
) -> list[dict[str, object]]:
    """What both charts make of a fleet with everything that brings rights."""
    values = {"installations": [{"namespace": namespace, "release": release, "clients": [client]}]}
    fleet = renders.render(
        {"clients": {"namespaces": [client]}}, release=release, namespace=namespace
    )
    return [*renders.objects(renders.render(values, chart=charts.CLUSTER)), *renders.objects(fleet)]


def table() -> str:
    """The table of the handbook."""
    lines = ["| role | right | without it | and that is told by |", "|---|---|---|---|"]
    for told, row in ROWS.items():
        role, _, right = told.partition(": ")
        way = WAYS[row.way]
        lines.append(f"| `{role}` | {right} | {way.without} | {way.told_by} |")
    return "\n".join(lines)


def lacking() -> set[str]:
    """Rights without a row, and rows without a right."""
    return {right.told() for right in rights.rights(rendered())} ^ set(ROWS)


def main() -> None:
    """Put the table into the handbook."""
    text = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(figures.replaced(text, "rights", table()), encoding="utf-8")
    host.say(f"wrote {PAGE}")


if __name__ == "__main__":
    main()
