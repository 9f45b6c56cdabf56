"""A real Prometheus on loopback: scrapes what it is given, keeps rules, and is asked.

    targets = [Target("127.0.0.1:9090", component="sync", pod="4711")]
    async with prometheus.running(folder, targets, rules=[Path("rules.yaml")]) as seen:
        await seen.all_up()
        found = await seen.query("sum by (component) (rate(midstreamer_frames_total[10s]))")

Its program is built once by `tests.cluster.build` and kept.  All that it writes is below the
folder that the caller gives; its process ends with the context.
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

from tests.cluster import build
from tests.support import programs

JOB = "midstreamer"
LOOPBACK = "127.0.0.1"
READY_S = 60.0
POLL_S = 0.05
RELOAD_S = 0.2
"""How soon targets are scraped that were named; 5 s when it is left to Prometheus."""
SCRAPE_TIMEOUT_S_MAX = 10.0
LOOKBACK_S = 300.0
"""Prometheus' own: how old a sample may be that an instant sees."""
LISTENS = re.compile(r"Listening on.*address=(127\.0\.0\.1:\d+)")
BUILD = "run `make dashboards`, which builds it in some two minutes, once"


class PrometheusFailed(AssertionError):
    """Prometheus did not start, or refused what it was asked; the message says what, and why."""


@dataclass(frozen=True)
class Target:
    """One endpoint, and the labels by which panels and rules select it."""

    address: str
    """``host:port``, scraped at /metrics."""
    component: str
    pod: str
    namespace: str = "local"

    @property
    def labels(self) -> dict[str, str]:
        """What is added to every sample of it."""
        return {"namespace": self.namespace, "component": self.component, "pod": self.pod}


@dataclass(frozen=True)
class Sample:
    """One series at one instant."""

    labels: Mapping[str, str]
    value: float


@dataclass(frozen=True)
class Series:
    """One series over a range: times are seconds since the epoch."""

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
    """How often Prometheus looks, in seconds."""

    scrape_s: float = 1.0
    evaluation_s: float = 1.0
    lookback_s: float = LOOKBACK_S


@dataclass
class Prometheus:
    """A Prometheus that runs."""

    address: str
    folder: Path
    pid: int
    pace: Pace
    session: aiohttp.ClientSession
    rules: tuple[Path, ...] = ()
    targets: list[Target] = field(default_factory=list)

    async def query(self, expression: str, *, at_s: float | None = None) -> list[Sample]:
        """Ask for an instant, now or ``at_s`` since the epoch; a scalar is one bare sample.

        Raises PrometheusFailed with what Prometheus says of the expression.
        """
        asked = {"query": expression, **({"time": repr(at_s)} if at_s is not None else {})}
        data = await self._asked("query", expression, asked)
        if data["resultType"] == "scalar":
            return [Sample({}, float(data["result"][1]))]
        return [Sample(one["metric"], float(one["value"][1])) for one in data["result"]]

    async def query_range(
        self, expression: str, *, begin_s: float, end_s: float, step_s: float
    ) -> list[Series]:
        """Ask for a range; raises PrometheusFailed with what Prometheus says of it."""
        asked = {
            "query": expression,
            "start": repr(begin_s),
            "end": repr(end_s),
            "step": repr(step_s),
        }
        data = await self._asked("query_range", expression, asked)
        return [
            Series(
                one["metric"],
                tuple(float(when) for when, _ in one["values"]),
                tuple(float(value) for _, value in one["values"]),
            )
            for one in data["result"]
        ]

    async def exemplars(
        self, expression: str, *, begin_s: float, end_s: float
    ) -> list[dict[str, Any]]:
        """The exemplars of the series of an expression, as Prometheus tells of them."""
        asked = {"query": expression, "start": repr(begin_s), "end": repr(end_s)}
        found: list[dict[str, Any]] = await self._asked("query_exemplars", expression, asked)
        return [exemplar for one in found for exemplar in one["exemplars"]]

    async def label_values(self, label: str, *selectors: str) -> list[str]:
        """The values of a label, of the series that one of the selectors has."""
        asked = [("match[]", selector) for selector in selectors]
        found: list[str] = await self._asked(f"label/{label}/values", label, asked)
        return found

    async def alerts(self) -> list[Alert]:
        """The alerts that are pending or firing now."""
        data = await self._asked("alerts", "alerts", {})
        return [
            Alert(
                one["labels"]["alertname"],
                one["state"],
                one["labels"],
                one["annotations"],
                float(one["value"]),
            )
            for one in data["alerts"]
        ]

    async def rule_problems(self) -> dict[str, str]:
        """What went wrong at the last evaluation of each rule, by its name; empty when nothing."""
        data = await self._asked("rules", "rules", {})
        rules = [rule for group in data["groups"] for rule in group["rules"]]
        return {rule["name"]: rule["lastError"] for rule in rules if rule["health"] == "err"}

    async def target_problems(self) -> dict[str, str]:
        """Why a target was not scraped, by its address; also when it was not looked at yet."""
        data = await self._asked("targets", "targets", {"state": "active"})
        looked = {one["labels"]["instance"]: one for one in data["activeTargets"]}
        unseen = {"health": "not looked at yet", "lastError": ""}
        seen = {each.address: looked.get(each.address, unseen) for each in self.targets}
        return {
            address: one["lastError"] or one["health"]
            for address, one in seen.items()
            if one["health"] != "up"
        }

    async def all_up(self, *, within_s: float = 30.0) -> None:
        """Wait until each target was scraped; raises PrometheusFailed with those that were not."""
        problems: dict[str, str] = {}
        try:
            async with asyncio.timeout(within_s):
                while problems := await self.target_problems():  # noqa: ASYNC110 - a process
                    await asyncio.sleep(POLL_S)
        except TimeoutError:
            told = "; ".join(f"{address}: {why}" for address, why in sorted(problems.items()))
            raise PrometheusFailed(f"not scraped within {within_s:g} s: {told}") from None

    async def watch(self, targets: Iterable[Target]) -> None:
        """Scrape these from now on: what is left out becomes stale, as pods that are gone do."""
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
    """Whether its program is there: tests skip themselves with `BUILD` when it is not."""
    return build.built("prometheus") is not None


@contextlib.asynccontextmanager
async def running(
    folder: Path,
    targets: Iterable[Target],
    *,
    rules: Iterable[Path] = (),
    pace: Pace = Pace(),
) -> AsyncIterator[Prometheus]:
    """A Prometheus that scrapes ``targets`` and keeps ``rules``; built first where it is missing.

    Raises PrometheusFailed with its last words when it does not start, as of a rule that it
    cannot read, and KitError when it cannot be built.
    """
    program = await asyncio.to_thread(build.program, "prometheus")
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
    made = {
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
    text = yaml.safe_dump(made, sort_keys=False)
    (folder / "prometheus.yaml").write_text(text, encoding="utf-8")


def _duration(seconds: float) -> str:
    milliseconds = math.ceil(seconds * 1e3)
    if milliseconds <= 0:
        raise ValueError(f"Prometheus cannot look every {seconds:g} s: take 0.001 s or more")
    return f"{milliseconds}ms"


async def _ready(
    process: asyncio.subprocess.Process, log: Path, session: aiohttp.ClientSession
) -> str:
    """Where it listens, once it answers."""
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
