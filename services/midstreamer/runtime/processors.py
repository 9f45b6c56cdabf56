"""How many processors this process may use: by its affinity, and by the quota of its cgroup.

A container of half the processors sees all of them. With a thread for each it uses up its quota in
the first half of each period and then stands still, its loop too. So whole processors count, the
rest is left to the loop, and there is always one.

Quotas of all cgroups above hold as well. Where a container sees the path of its host, but only its
own part of the tree, that part begins at the mount; so the mount itself is looked at too. What
cannot be read or understood sets no limit.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

MOUNT = "sys/fs/cgroup"
V2: tuple[str, ...] = ("cpu.max",)
V1: tuple[str, ...] = ("cpu.cfs_quota_us", "cpu.cfs_period_us")


def places(cgroup: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Where quotas may be told, from ``/proc/self/cgroup``: (folder below the mount, files)."""
    for line in cgroup.splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0" and not controllers:
            mounts, files = ("", "unified"), V2
        elif "cpu" in controllers.split(","):
            mounts, files = (controllers, "cpu"), V1
        else:
            continue
        parts = [part for part in path.split("/") if part not in {"", ".", ".."}]
        for mount in dict.fromkeys(mounts):
            for depth in range(len(parts) + 1):
                yield "/".join(filter(None, (mount, *parts[:depth]))), files


def quota(texts: Iterable[str]) -> float | None:
    """Processors that the texts of one folder's files allow; None when they set no limit."""
    words = " ".join(texts).split()
    try:
        limit, period = (int(word) for word in words)
    except ValueError:  # "max", or nothing that is known
        return None
    return limit / period if limit > 0 and period > 0 else None


def allowed(usable: int, quotas: Iterable[float | None]) -> int:
    """Processors to count on: whole ones, and never none."""
    limits = [limit for limit in quotas if limit is not None]
    return max(1, min(usable, *(int(limit) for limit in limits))) if limits else max(1, usable)


@functools.cache
def available(root: Path = Path("/")) -> int:
    """Processors that this process may use, as it was when first asked."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    cgroup = _text(root / "proc/self/cgroup")
    told = (
        [_text(root / MOUNT / folder / file) for file in files] for folder, files in places(cgroup)
    )
    return allowed(usable or 1, [quota(texts) for texts in told])


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii")
    except (OSError, ValueError):
        return ""
