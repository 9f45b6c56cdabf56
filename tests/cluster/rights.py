"""The rights that the charts give, one by one, and a role without one of them.  Pure.

A rule gives each of its verbs on each of its resources, and where it has names, of each name. All
are told apart here, so that a rule that is added to a chart brings its rights along.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from tests.cluster.renders import NAMESPACE, RELEASE

ROLES = ("ClusterRole", "Role")
Object = Mapping[str, Any]


@dataclass(frozen=True, order=True)
class Right:
    """One verb on one kind of objects, or on one object."""

    kind: str
    """Of the role that gives it."""
    role: str
    group: str
    resource: str
    name: str
    verb: str

    @property
    def rule(self) -> dict[str, Any]:
        """A rule that gives this right alone."""
        made: dict[str, Any] = {
            "apiGroups": [self.group],
            "resources": [self.resource],
            "verbs": [self.verb],
        }
        return made | ({"resourceNames": [self.name]} if self.name else {})

    def told(self, namespace: str = NAMESPACE, release: str = RELEASE) -> str:
        """Role, verb and what it is for, whatever namespace and release are called."""
        of_fleet = f"midstreamer:{namespace}:{release}:"
        role = self.role.replace(of_fleet, "cluster ").removeprefix(f"{release}-")
        name = self.name.removeprefix(f"midstreamer.dev/{namespace}.{release}.")
        words = (self.verb, self.resource, name.removeprefix(f"{release}-"))
        return f"{role.removeprefix('midstreamer:')}: {' '.join(filter(None, words))}"


def rights(made: Iterable[Object]) -> list[Right]:
    """Every right that roles among these objects give, in order, each once."""
    return sorted({right for role in made if role["kind"] in ROLES for right in given(role)})


def given(role: Object) -> Iterator[Right]:
    """Every right of one role."""
    plain = Right(role["kind"], role["metadata"]["name"], "", "", "", "")
    for rule in role.get("rules") or ():
        for group in rule.get("apiGroups", ()):
            for resource in rule.get("resources", ()):
                for name in rule.get("resourceNames") or ("",):
                    for verb in rule["verbs"]:
                        yield replace(plain, group=group, resource=resource, name=name, verb=verb)


def without(role: Object, right: Right) -> dict[str, Any]:
    """A role with all of its rights but one."""
    rules = [each.rule for each in given(role) if each != right]
    return {**role, "rules": rules}
