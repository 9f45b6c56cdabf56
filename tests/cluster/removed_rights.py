"""What fails when one right of the charts is removed: a table with a row for each right.

A test in a cluster removes each right and checks that the row is true.

``python -m tests.cluster.removed_rights`` writes the table of
docs/explanation/security-in-a-cluster.md. A right without a row makes a test fail. If nothing needs
a right, remove the right from the charts.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from tests.cluster import commands_here, renders, rights
from tests.cluster import rights_tasks as tasks
from tests.cluster.rights import Right
from tests.cluster.rights_tasks import Deed
from tools.docs import chart_files, measured_figures

PAGE = chart_files.FLEET.parents[1] / "docs/explanation/security-in-a-cluster.md"
CLIENTS = "shop"
"""The namespace of the clients; `rendered` passes this name to the charts."""
SAYS = "`/readyz` of the operator"
KUBECTL = "kubectl"


@dataclass(frozen=True)
class Way:
    """How a missing right shows: a task that then fails, and where a person sees the failure."""

    deed: Deed
    without: str
    """What a user or the fleet cannot do without the right, for the documentation."""
    told_by: str = SAYS
    """Where a person sees the failure."""


LISTENS = Deed(tasks.takes_over, steady_s=6.0)
WAYS: dict[str, Way] = {
    "serves": Way(Deed(tasks.serves), "the pools of agents are not managed"),
    "leads": Way(Deed(tasks.serves), "no replica of the operator becomes leader"),
    "is the first": Way(
        Deed(tasks.makes_its_lease), "no replica becomes leader in a new installation"
    ),
    "takes over": Way(Deed(tasks.takes_over), "a replica that takes over the lease does no work"),
    "listens": Way(LISTENS, "changes are noticed only by the operator's next sweep"),
    "password": Way(Deed(tasks.makes_the_password), "a new database gets no password"),
    "authority": Way(
        Deed(tasks.publishes_its_authority),
        "a trust bundle that lost the authority's certificate is not repaired",
    ),
    "forgets": Way(
        Deed(tasks.forgets_what_has_ended), "expired certificates stay in the ledger, which grows"
        " without limit",
    ),
    "member": Way(Deed(tasks.certifies_an_agent), "no pod of the fleet gets a certificate"),
    "client": Way(Deed(tasks.certifies_a_client), "no pod of another namespace gets a certificate"),
    "person": Way(Deed(tasks.certifies_a_person), "no person gets a certificate"),
    "denies": Way(
        Deed(tasks.denies_a_forger), "a denial is shown only in the signing request",
        "no Event at the pod",
    ),
    "pool": Way(
        Deed(tasks.makes_a_pool), "a new pool has no agents", "condition of the AgentPool, or"
        " `/readyz` of the operator",
    ),
    "agent": Way(
        Deed(tasks.starts_an_agent), "a new agent pod waits for its certificate without end",
        "`/readyz` of the agent, an Event",
    ),
    "waits": Way(
        Deed(tasks.tells_that_it_waits), "only `/readyz` of a pod says what the pod waits for",
        "no Event at the pod",
    ),
    "helm test": Way(
        Deed(tasks.helm_tests),
        "neither clients in other namespaces nor `helm test` get a certificate",
        "`helm test` fails",
    ),
    "installs": Way(
        Deed(tasks.installs), "a user with the role `admin` in a namespace cannot install the"
        " chart", KUBECTL,
    ),
    "creates pools": Way(tasks.creates("edit", "agentpool"), "users cannot create pools", KUBECTL),
    "changes pools": Way(
        tasks.kubectl("edit", "annotate", "POOL", "a=b", "--dry-run=server"),
        "`helm upgrade` and `kubectl edit` fail", KUBECTL,
    ),
    "replaces pools": Way(
        tasks.replaces("edit", "agentpool"), "`helm upgrade --force-replace` fails", KUBECTL
    ),
    "deletes pools": Way(
        tasks.kubectl("edit", "delete", "POOL", "--dry-run=server"), "`helm uninstall` fails",
        KUBECTL,
    ),
    "scales": Way(
        tasks.kubectl("edit", "scale", "POOL", "--replicas=2", "--dry-run=server"),
        "`kubectl scale` fails", KUBECTL,
    ),
    "scales from": Way(
        tasks.kubectl(
            "edit", "scale", "POOL", "--current-replicas=1", "--replicas=1", "--dry-run=server"
        ),
        "`kubectl scale --current-replicas` fails", KUBECTL,
    ),
    "creates templates": Way(
        tasks.creates("edit", "podtemplate"), "`helm install` fails", KUBECTL
    ),
    "changes templates": Way(
        tasks.kubectl("edit", "annotate", "TEMPLATE", "a=b", "--dry-run=server"),
        "`helm upgrade` fails", KUBECTL,
    ),
    "replaces templates": Way(
        tasks.replaces("edit", "podtemplate"), "`helm upgrade --force-replace` fails", KUBECTL
    ),
    "deletes templates": Way(
        tasks.kubectl("edit", "delete", "TEMPLATE", "--dry-run=server"), "`helm uninstall` fails",
        KUBECTL,
    ),
    "sees a pool": Way(tasks.kubectl("view", "get", "POOL"), "users cannot read pools", KUBECTL),
    "sees a template": Way(
        tasks.kubectl("view", "get", "TEMPLATE"), "users cannot read the pod template of agents",
        KUBECTL,
    ),
}  # fmt: skip
"""By name: a task that fails without some right.

A row in ROWS gives one of these names.
"""


@dataclass(frozen=True)
class Row:
    """What fails without one right: `way` is a key of WAYS."""

    way: str
    told: str = ""
    """A part of the message that must appear.

    If it is empty, a message of the API server must appear, which says that the right is missing.
    """

    def evidence(self, right: Right) -> str:
        """Return the text that the reported message must contain when the right is missing."""
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
            "create events": "denies: no Event reports it",
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
            "create events": "waits: no Event reports it",
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
"""For every right of both charts: what fails without it.

The key is the right as a text, as `Right.told` returns it.
"""


def rendered(
    namespace: str = renders.NAMESPACE, release: str = renders.RELEASE, client: str = CLIENTS
) -> list[dict[str, object]]:
    """Return the objects of both charts for a fleet with every option that adds rights."""
    values = {"installations": [{"namespace": namespace, "release": release, "clients": [client]}]}
    fleet = renders.render(
        {"clients": {"namespaces": [client]}}, release=release, namespace=namespace
    )
    return [
        *renders.objects(renders.render(values, chart=chart_files.CLUSTER)),
        *renders.objects(fleet),
    ]


def table() -> str:
    """Return the table of rights for the documentation, as Markdown."""
    lines = ["| role | right | without it | where that is shown |", "|---|---|---|---|"]
    for told, row in ROWS.items():
        role, _, right = told.partition(": ")
        way = WAYS[row.way]
        lines.append(f"| `{role}` | {right} | {way.without} | {way.told_by} |")
    return "\n".join(lines)


def lacking() -> set[str]:
    """Return the rights that have no row, and the rows that have no right."""
    return {right.told() for right in rights.rights(rendered())} ^ set(ROWS)


def main() -> None:
    """Write the table of rights into its documentation page."""
    text = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(measured_figures.replaced(text, "rights", table()), encoding="utf-8")
    commands_here.say(f"wrote {PAGE}")


if __name__ == "__main__":
    main()
