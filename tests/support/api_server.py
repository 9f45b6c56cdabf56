"""A Kubernetes API server in memory, with the parts that the operator and pods use.

`ApiServer` holds the objects and applies the API server's rules: resource versions and conflicts,
unique names, what `/approval` and `/status` of a signing request may change, immutable ConfigMaps,
generations, server-side apply, and permissions. `Caller` is an `Api` that calls it directly;
`api_over_https.served` serves it over HTTPS.
"""

from __future__ import annotations

import asyncio
import copy
import itertools
import uuid
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

from midstreamer.cluster import kubernetes_names
from midstreamer.cluster.api import Answer, Change, Object
from midstreamer.domain.errors import Unavailable

CERTIFICATES = "/apis/certificates.k8s.io/v1"
REVIEWS = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
NAMESPACES = "/api/v1/namespaces"
PARTS = ("approval", "status")
COLLECTIONS = (
    *("pods", "podtemplates", "events", "configmaps", "secrets", "leases"),
    *("deployments", "statefulsets", "agentpools", "persistentvolumeclaims"),
)


@dataclass(frozen=True)
class User:
    """The user that the API server finds for a token."""

    username: str
    groups: tuple[str, ...] = ()
    extra: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


ADMIN = User("admin", ("system:masters",))


def a_pod_user(namespace: str, account: str, pod: str, uid: str) -> User:
    """Return the user of a service account whose token is bound to a pod."""
    return User(
        f"system:serviceaccount:{namespace}:{account}",
        ("system:serviceaccounts", f"system:serviceaccounts:{namespace}", "system:authenticated"),
        {kubernetes_names.POD_NAME: (pod,), kubernetes_names.POD_UID: (uid,)},
    )


class Refusal(Exception):
    """An error answer of the API server: a Kubernetes Status instead of an object."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.body = {"kind": "Status", "reason": reason, "message": message, "code": status}


def _conflict(name: str) -> Refusal:
    return Refusal(409, "Conflict", f"{name}: the object has been modified; please apply changes")


Allows = Callable[[User, str, str], bool]


class ApiServer:
    """The API server: keeps all objects, by the path of their collection and then by name."""

    def __init__(self, allows: Allows = lambda user, verb, path: True) -> None:
        self.objects: dict[str, dict[str, Object]] = {}
        self.users: dict[str, User] = {"admin": ADMIN}
        self.uses: set[tuple[str, str, str]] = set()
        """Who may use which client identity: (user, namespace of the fleet, identity name)."""
        self.allows = allows
        self.calls: list[tuple[str, str]] = []
        self.rejects: Callable[[str, Object], str] = lambda collection, made: ""
        """Called with each applied object: returns why it is refused, or "" if it is accepted."""
        self.is_away = False
        self.refused = 0
        """Number of requests that got no answer because `is_away` was set."""
        self._versions = itertools.count(1)
        self._watchers: set[asyncio.Queue[tuple[str, str, Object]]] = set()

    # --- what tests do ----------------------------------------------------------------------------

    def put(self, collection: str, item: Object) -> Object:
        """Store an object as a test wants it, without a request."""
        return self._stored(collection, copy.deepcopy(item), "ADDED")

    def pod(self, namespace: str, name: str, account: str, *, uid: str = "") -> str:
        """Store a pod and a token ``<namespace>/<name>`` for it; return the pod's uid."""
        uid = uid or str(uuid.uuid4())
        pod = {
            "metadata": {"name": name, "namespace": namespace, "uid": uid},
            "spec": {"serviceAccountName": account},
            "status": {"phase": "Running"},
        }
        self.put(f"/api/v1/namespaces/{namespace}/pods", pod)
        self.users[f"{namespace}/{name}"] = a_pod_user(namespace, account, name, uid)
        return uid

    def namespace(self, name: str, **labels: str) -> None:
        """Store a namespace with these labels."""
        self.put(NAMESPACES, {"metadata": {"name": name, "labels": dict(labels)}})

    def all(self, collection: str) -> list[Object]:
        return list(self.objects.get(collection, {}).values())

    # --- requests ---------------------------------------------------------------------------------

    def answer(
        self, user: User, method: str, path: str, body: Object | None, query: Mapping[str, str]
    ) -> tuple[int, Object]:
        """Answer one request of one user: the HTTP status and the body."""
        self.calls.append((method, path))
        try:
            if not self.allows(user, method, path):
                raise Refusal(403, "Forbidden", f"{user.username} cannot {method} {path}")
            return self._answered(user, method, path, copy.deepcopy(body), query)
        except Refusal as refusal:
            return refusal.status, refusal.body

    def _answered(
        self, user: User, method: str, path: str, body: Object | None, query: Mapping[str, str]
    ) -> tuple[int, Object]:
        if method == "POST":
            assert body is not None
            return 201, self._created(user, path, body)
        if method == "GET" and _is_collection(path):
            return 200, self._listed(path, query)
        head, _, part = path.rpartition("/")
        if part in PARTS:
            path, (head, _, _) = head, head.rpartition("/")
        else:
            part = ""
        name = path.rpartition("/")[2]
        found = self.objects.get(head, {}).get(name)
        if method == "PATCH":
            assert body is not None
            assert query.get("fieldManager"), "the real one answers 400"
            return 200, self._applied(head, name, found, body, part)
        if found is None:
            raise Refusal(404, "NotFound", f"{path} not found")
        if method == "DELETE":
            del self.objects[head][name]
            self._tell("DELETED", head, found)
            return 200, copy.deepcopy(found)
        if method == "PUT":
            assert body is not None
            return 200, self._replaced(head, found, body, part)
        return 200, copy.deepcopy(found)

    def _created(self, user: User, collection: str, body: Object) -> Object:
        if collection == REVIEWS:
            return {**body, "status": {"allowed": self._may(body["spec"])}}
        meta = body.setdefault("metadata", {})
        if not meta.get("name"):
            meta["name"] = f"{meta['generateName']}{uuid.uuid4().hex[:5]}"
        if meta["name"] in self.objects.get(collection, {}):
            raise Refusal(409, "AlreadyExists", f"{collection}/{meta['name']} already exists")
        if collection == kubernetes_names.REQUESTS:
            _check_request(body["spec"])
            body["status"] = {}
            body["spec"] |= {
                "username": user.username,
                "groups": list(user.groups),
                "extra": {name: list(values) for name, values in user.extra.items()},
            }
        return self._stored(collection, body, "ADDED")

    def _may(self, spec: Object) -> bool:
        """Return whether a user may use a client identity; no other access review is supported."""
        asked = spec["resourceAttributes"]
        what = (asked["verb"], asked["group"], asked["resource"])
        assert what == ("use", "midstreamer.dev", "clientidentities")
        return (spec["user"], asked["namespace"], asked["name"]) in self.uses

    def _replaced(self, collection: str, found: Object, body: Object, part: str) -> Object:
        version = body["metadata"].get("resourceVersion")
        if version and version != found["metadata"]["resourceVersion"]:
            raise _conflict(found["metadata"]["name"])
        if found.get("immutable"):
            raise Refusal(422, "Invalid", "data: Forbidden: field is immutable")
        changed = copy.deepcopy(found)
        if part == "approval":
            _approve(changed, body)
        elif part == "status":
            _sign(changed, body)
        elif collection == kubernetes_names.REQUESTS:
            changed["metadata"] = body["metadata"]
        else:
            changed = body
        return self._stored(collection, changed, "MODIFIED")

    def _applied(
        self, collection: str, name: str, found: Object | None, body: Object, part: str
    ) -> Object:
        """Server-side apply by a single manager with force: set the given fields and keep the rest.

        The real API server also removes fields that the manager set before and no longer sends.
        """
        if body.get("metadata", {}).get("name") != name or not body.get("kind"):
            raise Refusal(400, "BadRequest", "apply: no kind, or another name than in the path")
        if reason := self.rejects(collection, body):
            raise Refusal(422, "Invalid", reason)
        if part == "status":
            if found is None:
                raise Refusal(404, "NotFound", f"{collection}/{name} not found")
            merged = {**found, "status": _merged(found.get("status", {}), body["status"])}
        elif found is None:
            return self._stored(collection, body, "ADDED")
        else:
            merged = _merged(found, {key: body[key] for key in body if key != "status"})
        if merged == found:
            # Nothing changed, so no new version is stored and no watch gets an event.
            return copy.deepcopy(found)
        return self._stored(collection, merged, "MODIFIED")

    def _listed(self, path: str, query: Mapping[str, str]) -> Object:
        items = [item for item in self.all(path) if _is_selected(item, query)]
        limit, begin = int(query.get("limit", 0)), int(query.get("continue", 0))
        page = items[begin : begin + limit] if limit else items
        meta: Object = {"resourceVersion": str(next(self._versions))}
        if limit and begin + limit < len(items):
            meta["continue"] = str(begin + limit)
        return {"kind": "List", "metadata": meta, "items": copy.deepcopy(page)}

    def _stored(self, collection: str, item: Object, type: str) -> Object:
        meta = item.setdefault("metadata", {})
        meta.setdefault("uid", str(uuid.uuid4()))
        meta.setdefault("creationTimestamp", "2026-01-01T00:00:00Z")
        before = self.objects.get(collection, {}).get(meta["name"])
        is_same = before is not None and before.get("spec") == item.get("spec")
        generation = 0 if before is None else before["metadata"].get("generation", 0)
        meta["generation"] = generation if is_same else generation + 1
        meta["resourceVersion"] = str(next(self._versions))
        self.objects.setdefault(collection, {})[meta["name"]] = item
        self._tell(type, collection, item)
        return copy.deepcopy(item)

    def _tell(self, type: str, collection: str, item: Object) -> None:
        for watcher in self._watchers:
            watcher.put_nowait((type, collection, copy.deepcopy(item)))

    async def changes(
        self, user: User, path: str, query: Mapping[str, str], lasts_s: float
    ) -> AsyncGenerator[Change, None]:
        """Yield the changes of a watch: first all objects, unless a resource version is given."""
        self.calls.append(("WATCH", path))
        if not self.allows(user, "WATCH", path):
            raise Refusal(403, "Forbidden", f"{user.username} cannot watch {path}")
        queue: asyncio.Queue[tuple[str, str, Object]] = asyncio.Queue()
        if not query.get("resourceVersion"):
            for item in self.all(path):
                queue.put_nowait(("ADDED", path, copy.deepcopy(item)))
        self._watchers.add(queue)
        try:
            until_s = asyncio.get_running_loop().time() + lasts_s
            while True:
                async with asyncio.timeout_at(until_s):
                    change, collection, changed = await queue.get()
                if collection == path and _is_selected(changed, query):
                    yield Change(change, changed)
        except TimeoutError:
            return
        finally:
            self._watchers.discard(queue)


@dataclass
class Caller:
    """An `Api` of one user that calls the server directly, without a network."""

    server: ApiServer
    user: User = ADMIN

    async def ask(
        self,
        method: str,
        path: str,
        body: Object | None = None,
        *,
        query: Mapping[str, str] | None = None,
    ) -> Answer:
        await asyncio.sleep(0)
        self._check_there(f"{method} {path}")
        status, result = self.server.answer(self.user, method, path, body, query or {})
        return Answer(f"{method} {path}", status, result)

    async def watch(
        self, path: str, query: Mapping[str, str], *, lasts_s: float
    ) -> AsyncGenerator[Change, None]:
        self._check_there(f"GET {path}")
        try:
            async with aclosing(self.server.changes(self.user, path, query, lasts_s)) as changes:
                async for change in changes:
                    yield change
        except Refusal as refusal:
            raise Answer(f"GET {path}", refusal.status, refusal.body).error() from refusal

    def _check_there(self, asked: str) -> None:
        if self.server.is_away:
            self.server.refused += 1
            raise Unavailable(f"{asked}: the API server cannot be reached")


# The functions from here to `_check_conditions` apply rules of the real API server.


def _is_collection(path: str) -> bool:
    plural = path.rpartition("/")[2]
    return plural in COLLECTIONS or path == kubernetes_names.REQUESTS


def _is_selected(item: Object, query: Mapping[str, str]) -> bool:
    where = {
        "metadata.name": item["metadata"]["name"],
        "spec.signerName": item.get("spec", {}).get("signerName"),
        "involvedObject.uid": item.get("involvedObject", {}).get("uid"),
    }
    key, _, value = query.get("fieldSelector", "").partition("=")
    if key and where[key] != value:
        return False
    labels = item["metadata"].get("labels", {})
    wanted = [each.partition("=") for each in query.get("labelSelector", "").split(",") if each]
    return all(labels.get(key) == value if value else key in labels for key, _, value in wanted)


def _merged(found: Object, wanted: Object) -> Object:
    """Merge maps key by key and replace lists, like server-side apply with one field manager."""
    merged = dict(found)
    for key, value in wanted.items():
        old = merged.get(key)
        if isinstance(old, dict) and isinstance(value, dict):
            merged[key] = _merged(old, value)
        else:
            merged[key] = value
    return merged


def _check_request(spec: Object) -> None:
    if spec.get("expirationSeconds") is not None and spec["expirationSeconds"] < 600:
        raise Refusal(422, "Invalid", "spec.expirationSeconds: may not specify less than 600")
    if not spec.get("usages"):
        raise Refusal(422, "Invalid", "spec.usages: Required value")


def _conditions(request: Object) -> dict[str, Any]:
    return {each["type"]: each for each in request.get("status", {}).get("conditions", [])}


def _approve(request: Object, body: Object) -> None:
    """Change the conditions of a request through `/approval`; Approved and Denied are final."""
    before, wanted = _conditions(request), _conditions(body)
    for each in ("Approved", "Denied"):
        if each in before and before[each] != wanted.get(each):
            raise Refusal(422, "Invalid", f"status.conditions: {each} may not be changed")
    if "Approved" in wanted and "Denied" in wanted:
        raise Refusal(422, "Invalid", "status.conditions: Approved and Denied exclude each other")
    _check_conditions(wanted)
    request.setdefault("status", {})["conditions"] = list(wanted.values())


def _sign(request: Object, body: Object) -> None:
    """Set the certificate and the condition Failed of a request, as an update of `/status` does.

    Such an update must not change the conditions Approved and Denied: only `/approval` may.
    """
    before, wanted = _conditions(request), _conditions(body)
    if {*wanted} - {"Failed"} != {*before} - {"Failed"}:
        raise Refusal(422, "Invalid", "status.conditions: only /approval sets Approved or Denied")
    _check_conditions(wanted)
    had, has = (each.get("status", {}).get("certificate") for each in (request, body))
    if had and had != has:
        raise Refusal(422, "Invalid", "status.certificate: field is immutable")
    request["status"] = {**body.get("status", {}), "conditions": list(wanted.values())}


def _check_conditions(conditions: Mapping[str, Any]) -> None:
    for each in conditions.values():
        if each.get("status") != "True" or not each.get("reason"):
            raise Refusal(422, "Invalid", "status.conditions: status and reason are required")


async def until(holds: Callable[[], object], *, within_s: float = 10.0) -> None:
    """Poll a condition until it holds; raise TimeoutError after ``within_s`` seconds."""
    async with asyncio.timeout(within_s):
        while not holds():  # noqa: ASYNC110 - the condition has no event
            await asyncio.sleep(0.001)
