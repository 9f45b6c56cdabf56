"""List the single rights that the charts' roles give, and make a role without one right.  Pure.

A rule of a role gives each of its verbs on each of its resources, and on each of its resource
names if it has names. This module counts each combination as one right, so that a rule that is
added to a chart adds its rights to the list.
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
    """A role's permission for one verb on one resource, or on one object of the resource."""

    kind: str
    """The kind of the role that gives the right: ClusterRole or Role."""
    role: str
    group: str
    resource: str
    name: str
    verb: str

    @property
    def rule(self) -> dict[str, Any]:
        """A rule for a role that gives only this right."""
        single_rule: dict[str, Any] = {
            "apiGroups": [self.group],
            "resources": [self.resource],
            "verbs": [self.verb],
        }
        return single_rule | ({"resourceNames": [self.name]} if self.name else {})

    def told(self, namespace: str = NAMESPACE, release: str = RELEASE) -> str:
        """Return role, verb, resource and name as one text, for tables and messages.

        The names of the `namespace` and the `release` are left out of this text.
        """
        of_fleet = f"midstreamer:{namespace}:{release}:"
        role = self.role.replace(of_fleet, "cluster ").removeprefix(f"{release}-")
        name = self.name.removeprefix(f"midstreamer.dev/{namespace}.{release}.")
        words = (self.verb, self.resource, name.removeprefix(f"{release}-"))
        return f"{role.removeprefix('midstreamer:')}: {' '.join(filter(None, words))}"


def rights(made: Iterable[Object]) -> list[Right]:
    """Return the rights that the roles among these objects give, sorted, without duplicates."""
    return sorted({right for role in made if role["kind"] in ROLES for right in given(role)})


def given(role: Object) -> Iterator[Right]:
    """Yield every right that one role gives."""
    plain = Right(role["kind"], role["metadata"]["name"], "", "", "", "")
    for rule in role.get("rules") or ():
        for group in rule.get("apiGroups", ()):
            for resource in rule.get("resources", ()):
                for name in rule.get("resourceNames") or ("",):
                    for verb in rule["verbs"]:
                        yield replace(plain, group=group, resource=resource, name=name, verb=verb)


def without(role: Object, right: Right) -> dict[str, Any]:
    """Return a copy of a role that gives all of its rights except `right`."""
    rules = [each.rule for each in given(role) if each != right]
    return {**role, "rules": rules}
