"""Runs a real Prometheus on loopback, which scrapes targets, evaluates rules and is queried.

    targets = [Target("127.0.0.1:9090", component="sync", pod="4711")]
    async with prometheus.running(folder, targets, rules=[Path("rules.yaml")]) as seen:
        await seen.all_up()
        found = await seen.query("sum by (component) (rate(midstreamer_frames_total[10s]))")

`tests.cluster.program_builds` builds Prometheus once and keeps the program. It writes only below
the folder that the caller gives, and its process ends with the context.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import re
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import yaml  # type: ignore[import-untyped]

from tests.cluster import program_builds
from tests.support import programs

JOB = "midstreamer"
LOOPBACK = "127.0.0.1"
READY_S = 60.0
POLL_S = 0.05
RELOAD_S = 0.2
"""Seconds until new targets are scraped; Prometheus' own default is 5 s."""
SCRAPE_TIMEOUT_S_MAX = 10.0
LOOKBACK_S = 300.0
"""Maximum age of a sample that an instant query returns, in seconds: Prometheus' own default."""
LISTENS = re.compile(r"Listening on.*address=(127\.0\.0\.1:\d+)")
BUILD = "run `make dashboards`, which builds it in some two minutes, once"


class PrometheusFailed(AssertionError):
    """Prometheus did not start, or refused a request; the message says which and why."""


@dataclass(frozen=True)
class Target:
    """One scraped endpoint, and the labels by which panels and rules select it."""

    address: str
    """The endpoint as ``host:port``; Prometheus scrapes it at /metrics."""
    component: str
    pod: str
    namespace: str = "local"

    @property
    def labels(self) -> dict[str, str]:
        """The labels that Prometheus adds to every sample of this target."""
        return {"namespace": self.namespace, "component": self.component, "pod": self.pod}


@dataclass(frozen=True)
class Sample:
    """The value of one series at one instant."""

    labels: Mapping[str, str]
    value: float


@dataclass(frozen=True)
class Series:
    """The values of one series over a range; times are seconds since the epoch."""

    labels: Mapping[str, str]
    times: tuple[float, ...]
    values: tuple[float, ...]


@dataclass(frozen=True)
class Alert:
    """An alert that is pending or firing."""

    name: str
    state: str
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    value: float


@dataclass(frozen=True)
class Pace:
    """Intervals of scrapes and rule evaluations, and the maximum age of samples, in seconds."""

    scrape_s: float = 1.0
    evaluation_s: float = 1.0
    lookback_s: float = LOOKBACK_S


@dataclass
class Prometheus:
    """A running Prometheus."""

    address: str
    folder: Path
    pid: int
    pace: Pace
    session: aiohttp.ClientSession
    rules: tuple[Path, ...] = ()
    targets: list[Target] = field(default_factory=list)

    async def query(self, expression: str, *, at_s: float | None = None) -> list[Sample]:
        """Query one instant: now, or ``at_s`` seconds since the epoch.

        A scalar is returned as one sample without labels. Raise PrometheusFailed with Prometheus'
        message when the expression is wrong.
        """
        asked = {"query": expression, **({"time": repr(at_s)} if at_s is not None else {})}
        data = await self._asked("query", expression, asked)
        if data["resultType"] == "scalar":
            return [Sample({}, float(data["result"][1]))]
        return [Sample(each["metric"], float(each["value"][1])) for each in data["result"]]

    async def query_range(
        self, expression: str, *, begin_s: float, end_s: float, step_s: float
    ) -> list[Series]:
        """Query a range; raise PrometheusFailed with Prometheus' message when the query fails."""
        asked = {
            "query": expression,
            "start": repr(begin_s),
            "end": repr(end_s),
            "step": repr(step_s),
        }
        data = await self._asked("query_range", expression, asked)
        return [
            Series(
                each["metric"],
                tuple(float(when) for when, _ in each["values"]),
                tuple(float(value) for _, value in each["values"]),
            )
            for each in data["result"]
        ]

    async def exemplars(
        self, expression: str, *, begin_s: float, end_s: float
    ) -> list[dict[str, Any]]:
        """Return the exemplars of the series of an expression, as Prometheus sends them."""
        asked = {"query": expression, "start": repr(begin_s), "end": repr(end_s)}
        found: list[dict[str, Any]] = await self._asked("query_exemplars", expression, asked)
        return [exemplar for each in found for exemplar in each["exemplars"]]

    async def label_values(self, label: str, *selectors: str) -> list[str]:
        """Return the values of a label on the series that match one of the selectors."""
        asked = [("match[]", selector) for selector in selectors]
        found: list[str] = await self._asked(f"label/{label}/values", label, asked)
        return found

    async def alerts(self) -> list[Alert]:
        """Return the alerts that are pending or firing now."""
        data = await self._asked("alerts", "alerts", {})
        return [
            Alert(
                each["labels"]["alertname"],
                each["state"],
                each["labels"],
                each["annotations"],
                float(each["value"]),
            )
            for each in data["alerts"]
        ]

    async def rule_problems(self) -> dict[str, str]:
        """Return the error of each rule whose last evaluation failed, by rule name."""
        data = await self._asked("rules", "rules", {})
        rules = [rule for group in data["groups"] for rule in group["rules"]]
        return {rule["name"]: rule["lastError"] for rule in rules if rule["health"] == "err"}

    async def target_problems(self) -> dict[str, str]:
        """Return the problem of each target that is not up, by the address of the target.

        A target that was not scraped yet counts as not up.
        """
        data = await self._asked("targets", "targets", {"state": "active"})
        looked = {target["labels"]["instance"]: target for target in data["activeTargets"]}
        unseen = {"health": "not looked at yet", "lastError": ""}
        seen = {each.address: looked.get(each.address, unseen) for each in self.targets}
        return {
            address: target["lastError"] or target["health"]
            for address, target in seen.items()
            if target["health"] != "up"
        }

    async def all_up(self, *, within_s: float = 30.0) -> None:
        """Wait until each target was scraped; raise PrometheusFailed naming those that were not."""
        problems: dict[str, str] = {}
        try:
            async with asyncio.timeout(within_s):
                while problems := await self.target_problems():  # noqa: ASYNC110 - a process
                    await asyncio.sleep(POLL_S)
        except TimeoutError:
            reasons = "; ".join(f"{address}: {why}" for address, why in sorted(problems.items()))
            raise PrometheusFailed(f"not scraped within {within_s:g} s: {reasons}") from None

    async def watch(self, targets: Iterable[Target]) -> None:
        """Scrape only these targets from now on; series of removed targets become stale."""
        self.targets = list(targets)
        _configure(self.folder, self.targets, self.rules, self.pace)
        async with self.session.post(f"http://{self.address}/-/reload") as answer:
            if answer.status != 200:
                raise PrometheusFailed(f"the new targets are refused: {await answer.text()}")

    async def _asked(
        self, path: str, what: str, asked: Mapping[str, str] | Sequence[tuple[str, str]]
    ) -> Any:
        url = f"http://{self.address}/api/v1/{path}"
        try:
            async with self.session.get(url, params=asked) as answer:
                found = json.loads(await answer.read())
        except (aiohttp.ClientError, TimeoutError, json.JSONDecodeError) as error:
            raise PrometheusFailed(f"{path} of {what!r} was not answered: {error!r}") from error
        if found["status"] != "success":
            raise PrometheusFailed(f"{path} of {what!r} is refused: {found['error']}")
        return found["data"]


def is_built() -> bool:
    """Return whether Prometheus is built; tests that need Prometheus are skipped when it is not."""
    return program_builds.built("prometheus") is not None


@contextlib.asynccontextmanager
async def running(
    folder: Path,
    targets: Iterable[Target],
    *,
    rules: Iterable[Path] = (),
    pace: Pace = Pace(),
) -> AsyncIterator[Prometheus]:
    """A Prometheus that scrapes ``targets`` and evaluates ``rules``; it is built if missing.

    Raise PrometheusFailed with the end of its log when it does not start, for example because of a
    broken rule, and KitError when it cannot be built.
    """
    program = await asyncio.to_thread(program_builds.program, "prometheus")
    kept, scraped = tuple(each.absolute() for each in rules), list(targets)
    _configure(folder, scraped, kept, pace)
    log = folder / "prometheus.log"
    timeout = aiohttp.ClientTimeout(total=READY_S)
    async with (
        programs.running(program, *_arguments(folder, pace), log=log) as process,
        aiohttp.ClientSession(timeout=timeout) as session,
    ):
        address = await _ready(process, log, session)
        yield Prometheus(address, folder, process.pid, pace, session, kept, scraped)


def _arguments(folder: Path, pace: Pace) -> list[str]:
    return [
        f"--config.file={folder / 'prometheus.yaml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        "--storage.tsdb.no-lockfile",
        f"--web.listen-address={LOOPBACK}:0",
        "--web.enable-lifecycle",
        "--enable-feature=exemplar-storage",
        f"--scrape.discovery-reload-interval={_duration(RELOAD_S)}",
        f"--query.lookback-delta={_duration(pace.lookback_s)}",
    ]


def _configure(folder: Path, targets: list[Target], rules: tuple[Path, ...], pace: Pace) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    configuration = {
        "global": {
            "scrape_interval": _duration(pace.scrape_s),
            "scrape_timeout": _duration(min(pace.scrape_s, SCRAPE_TIMEOUT_S_MAX)),
            "evaluation_interval": _duration(pace.evaluation_s),
        },
        "rule_files": [str(rule) for rule in rules],
        "scrape_configs": [
            {
                "job_name": JOB,
                "static_configs": [
                    {"targets": [each.address], "labels": each.labels} for each in targets
                ],
            }
        ],
    }
    text = yaml.safe_dump(configuration, sort_keys=False)
    (folder / "prometheus.yaml").write_text(text, encoding="utf-8")


def _duration(seconds: float) -> str:
    milliseconds = math.ceil(seconds * 1e3)
    if milliseconds <= 0:
        raise ValueError(f"Prometheus cannot use an interval of {seconds:g} s: use 0.001 s or more")
    return f"{milliseconds}ms"


async def _ready(
    process: asyncio.subprocess.Process, log: Path, session: aiohttp.ClientSession
) -> str:
    """Wait until Prometheus answers; return the address on which it listens."""
    try:
        async with asyncio.timeout(READY_S):
            while not (found := LISTENS.search(_told(log))):
                _check(process, log)
                await asyncio.sleep(POLL_S)
            while not await _answers(session, found[1]):
                _check(process, log)
                await asyncio.sleep(POLL_S)
            return found[1]
    except TimeoutError:
        raise PrometheusFailed(
            f"not ready within {READY_S:g} s: {programs.last_words(log, having='level=ERROR')}"
        ) from None


async def _answers(session: aiohttp.ClientSession, address: str) -> bool:
    try:
        async with session.get(f"http://{address}/-/ready") as answer:
            return answer.status == 200
    except aiohttp.ClientError:
        return False


def _check(process: asyncio.subprocess.Process, log: Path) -> None:
    if process.returncode is not None:
        raise PrometheusFailed(
            f"ended with {process.returncode}: {programs.last_words(log, having='level=ERROR')}"
        )


def _told(log: Path) -> str:
    return log.read_text(encoding="utf-8", errors="replace")
