"""A Kubernetes API server, as far as the operator and pods use one.

`ApiServer` holds the objects and knows the rules that matter: resource versions and conflicts,
names that are taken, what `/approval` and `/status` of a signing request let pass, ConfigMaps that
are immutable, generations, server-side apply, who may do what.  `Caller` is an `Api` that speaks
to it directly; `api_over_https.served` has the same over HTTPS.
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

from midstreamer.cluster import naming
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
    """Whom a token belongs to, as the API server finds out."""

    username: str
    groups: tuple[str, ...] = ()
    extra: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


ADMIN = User("admin", ("system:masters",))


def a_pod_user(namespace: str, account: str, pod: str, uid: str) -> User:
    """A service account with a token that is bound to a pod."""
    return User(
        f"system:serviceaccount:{namespace}:{account}",
        ("system:serviceaccounts", f"system:serviceaccounts:{namespace}", "system:authenticated"),
        {naming.POD_NAME: (pod,), naming.POD_UID: (uid,)},
    )


class Refusal(Exception):
    """An answer that is a Status, not an object."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.body = {"kind": "Status", "reason": reason, "message": message, "code": status}


def _conflict(name: str) -> Refusal:
    return Refusal(409, "Conflict", f"{name}: the object has been modified; please apply changes")


Allows = Callable[[User, str, str], bool]


class ApiServer:
    """All objects, by the path of their collection and their name."""

    def __init__(self, allows: Allows = lambda user, verb, path: True) -> None:
        self.objects: dict[str, dict[str, Object]] = {}
        self.users: dict[str, User] = {"admin": ADMIN}
        self.uses: set[tuple[str, str, str]] = set()
        """Who may use which client identity: user, namespace of the fleet, name."""
        self.allows = allows
        self.calls: list[tuple[str, str]] = []
        self.rejects: Callable[[str, Object], str] = lambda collection, made: ""
        """Why an applied object is not let pass, as by a quota or its validation."""
        self.is_away = False
        self.refused = 0
        """Requests that it has not answered because it was away."""
        self._versions = itertools.count(1)
        self._watchers: set[asyncio.Queue[tuple[str, str, Object]]] = set()

    # --- what tests do ----------------------------------------------------------------------------

    def put(self, collection: str, made: Object) -> Object:
        """Have an object, by no request."""
        return self._stored(collection, copy.deepcopy(made), "ADDED")

    def pod(self, namespace: str, name: str, account: str, *, uid: str = "") -> str:
        """Have a pod, and a token that is its name; its uid."""
        uid = uid or str(uuid.uuid4())
        made = {
            "metadata": {"name": name, "namespace": namespace, "uid": uid},
            "spec": {"serviceAccountName": account},
            "status": {"phase": "Running"},
        }
        self.put(f"/api/v1/namespaces/{namespace}/pods", made)
        self.users[f"{namespace}/{name}"] = a_pod_user(namespace, account, name, uid)
        return uid

    def namespace(self, name: str, **labels: str) -> None:
        """Have a namespace with these labels."""
        self.put(NAMESPACES, {"metadata": {"name": name, "labels": dict(labels)}})

    def all(self, collection: str) -> list[Object]:
        return list(self.objects.get(collection, {}).values())

    # --- requests ---------------------------------------------------------------------------------

    def answer(
        self, user: User, method: str, path: str, body: Object | None, query: Mapping[str, str]
    ) -> tuple[int, Object]:
        """One request of one user."""
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
        if collection == naming.REQUESTS:
            _check_request(body["spec"])
            body["status"] = {}
            body["spec"] |= {
                "username": user.username,
                "groups": list(user.groups),
                "extra": {name: list(values) for name, values in user.extra.items()},
            }
        return self._stored(collection, body, "ADDED")

    def _may(self, spec: Object) -> bool:
        """The answer to a review of access: it is about client identities alone."""
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
        made = copy.deepcopy(found)
        if part == "approval":
            _approve(made, body)
        elif part == "status":
            _sign(made, body)
        elif collection == naming.REQUESTS:
            made["metadata"] = body["metadata"]
        else:
            made = body
        return self._stored(collection, made, "MODIFIED")

    def _applied(
        self, collection: str, name: str, found: Object | None, body: Object, part: str
    ) -> Object:
        """Server-side apply by one manager who forces: what is named is so, the rest stays.

        The real one also takes away what its manager named before and does not any more.
        """
        if body.get("metadata", {}).get("name") != name or not body.get("kind"):
            raise Refusal(400, "BadRequest", "apply needs the kind, and the name of the path")
        if told := self.rejects(collection, body):
            raise Refusal(422, "Invalid", told)
        if part == "status":
            if found is None:
                raise Refusal(404, "NotFound", f"{collection}/{name} not found")
            made = {**found, "status": _merged(found.get("status", {}), body["status"])}
        elif found is None:
            return self._stored(collection, body, "ADDED")
        else:
            made = _merged(found, {key: body[key] for key in body if key != "status"})
        if made == found:
            return copy.deepcopy(found)  # no write, no new version, no event
        return self._stored(collection, made, "MODIFIED")

    def _listed(self, path: str, query: Mapping[str, str]) -> Object:
        items = [one for one in self.all(path) if _is_selected(one, query)]
        limit, begin = int(query.get("limit", 0)), int(query.get("continue", 0))
        page = items[begin : begin + limit] if limit else items
        meta: Object = {"resourceVersion": str(next(self._versions))}
        if limit and begin + limit < len(items):
            meta["continue"] = str(begin + limit)
        return {"kind": "List", "metadata": meta, "items": copy.deepcopy(page)}

    def _stored(self, collection: str, made: Object, type: str) -> Object:
        meta = made.setdefault("metadata", {})
        meta.setdefault("uid", str(uuid.uuid4()))
        meta.setdefault("creationTimestamp", "2026-01-01T00:00:00Z")
        before = self.objects.get(collection, {}).get(meta["name"])
        is_same = before is not None and before.get("spec") == made.get("spec")
        generation = 0 if before is None else before["metadata"].get("generation", 0)
        meta["generation"] = generation if is_same else generation + 1
        meta["resourceVersion"] = str(next(self._versions))
        self.objects.setdefault(collection, {})[meta["name"]] = made
        self._tell(type, collection, made)
        return copy.deepcopy(made)

    def _tell(self, type: str, collection: str, made: Object) -> None:
        for watcher in self._watchers:
            watcher.put_nowait((type, collection, copy.deepcopy(made)))

    async def changes(
        self, user: User, path: str, query: Mapping[str, str], lasts_s: float
    ) -> AsyncGenerator[Change, None]:
        """A watch: what is there, unless it begins at a version, and then what changes."""
        self.calls.append(("WATCH", path))
        if not self.allows(user, "WATCH", path):
            raise Refusal(403, "Forbidden", f"{user.username} cannot watch {path}")
        queue: asyncio.Queue[tuple[str, str, Object]] = asyncio.Queue()
        if not query.get("resourceVersion"):
            for one in self.all(path):
                queue.put_nowait(("ADDED", path, copy.deepcopy(one)))
        self._watchers.add(queue)
        try:
            until_s = asyncio.get_running_loop().time() + lasts_s
            while True:
                async with asyncio.timeout_at(until_s):
                    change, collection, made = await queue.get()
                if collection == path and _is_selected(made, query):
                    yield Change(change, made)
        except TimeoutError:
            return
        finally:
            self._watchers.discard(queue)


@dataclass
class Caller:
    """An `Api` of one user that needs no network."""

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
        status, told = self.server.answer(self.user, method, path, body, query or {})
        return Answer(f"{method} {path}", status, told)

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


# --- the rules of the real one --------------------------------------------------------------------


def _is_collection(path: str) -> bool:
    plural = path.rpartition("/")[2]
    return plural in COLLECTIONS or path == naming.REQUESTS


def _is_selected(one: Object, query: Mapping[str, str]) -> bool:
    where = {
        "metadata.name": one["metadata"]["name"],
        "spec.signerName": one.get("spec", {}).get("signerName"),
        "involvedObject.uid": one.get("involvedObject", {}).get("uid"),
    }
    key, _, value = query.get("fieldSelector", "").partition("=")
    if key and where[key] != value:
        return False
    labels = one["metadata"].get("labels", {})
    wanted = [each.partition("=") for each in query.get("labelSelector", "").split(",") if each]
    return all(labels.get(key) == value if value else key in labels for key, _, value in wanted)


def _merged(there: Object, wanted: Object) -> Object:
    """Maps by key; lists are replaced, which is enough for one manager."""
    made = dict(there)
    for key, value in wanted.items():
        old = made.get(key)
        if isinstance(old, dict) and isinstance(value, dict):
            made[key] = _merged(old, value)
        else:
            made[key] = value
    return made


def _check_request(spec: Object) -> None:
    if spec.get("expirationSeconds") is not None and spec["expirationSeconds"] < 600:
        raise Refusal(422, "Invalid", "spec.expirationSeconds: may not specify less than 600")
    if not spec.get("usages"):
        raise Refusal(422, "Invalid", "spec.usages: Required value")


def _conditions(one: Object) -> dict[str, Any]:
    return {each["type"]: each for each in one.get("status", {}).get("conditions", [])}


def _approve(made: Object, body: Object) -> None:
    """`/approval` changes conditions alone; what was approved or denied stays so."""
    before, wanted = _conditions(made), _conditions(body)
    for each in ("Approved", "Denied"):
        if each in before and before[each] != wanted.get(each):
            raise Refusal(422, "Invalid", f"status.conditions: {each} may not be changed")
    if "Approved" in wanted and "Denied" in wanted:
        raise Refusal(422, "Invalid", "status.conditions: Approved and Denied exclude each other")
    _check_conditions(wanted)
    made.setdefault("status", {})["conditions"] = list(wanted.values())


def _sign(made: Object, body: Object) -> None:
    """`/status` adds Failed and a certificate; it neither approves nor denies."""
    before, wanted = _conditions(made), _conditions(body)
    if {*wanted} - {"Failed"} != {*before} - {"Failed"}:
        raise Refusal(422, "Invalid", "status.conditions: /status neither approves nor denies")
    _check_conditions(wanted)
    had, has = (one.get("status", {}).get("certificate") for one in (made, body))
    if had and had != has:
        raise Refusal(422, "Invalid", "status.certificate: field is immutable")
    made["status"] = {**body.get("status", {}), "conditions": list(wanted.values())}


def _check_conditions(conditions: Mapping[str, Any]) -> None:
    for each in conditions.values():
        if each.get("status") != "True" or not each.get("reason"):
            raise Refusal(422, "Invalid", "status.conditions: status and reason are required")


async def until(holds: Callable[[], object], *, within_s: float = 10.0) -> None:
    """Wait until something holds that has no event; the test fails when it does not."""
    async with asyncio.timeout(within_s):
        while not holds():  # noqa: ASYNC110 - what is watched has no event
            await asyncio.sleep(0.001)
