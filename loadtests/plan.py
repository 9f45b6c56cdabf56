"""What one load test does, in one value: written by whoever starts it, read by its processes.

Shapes are rows of stages (`schedule.Stage`) with the habits of the users in them.  A shape of
one's own is an entry in `SHAPES`, or JSON of the same fields: see docs/how-to/load-testing.md.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from loadtests import thresholds
from loadtests.schedule import Spacing, Stage, steady
from midstreamer.domain.errors import BadInput

KINDS = ("append", "match", "lookup", "survey", "refusal")
"""Requests that are drawn by weight; handshakes and reconnects come by themselves."""
MIX = {"append": 30.0, "match": 20.0, "lookup": 45.0, "survey": 1.0, "refusal": 4.0}
USERS_MAX = 20_000
VARIABLE = "LOAD_PLAN"
"""Of the environment: the file in which the processes of a load find the plan."""


class Shape(msgspec.Struct, frozen=True):
    """How load comes and what users do besides asking."""

    stages: tuple[Stage, ...]
    users: int
    reconnects_per_s: float = 0.0
    """Links that are closed and dialled again each second, of all users together."""
    slow_share: float = 0.0
    """Part of the users that stop reading for a second again and again."""


SHAPES: dict[str, Shape] = {
    # As many as the acceptance asks for, in about a minute.
    "smoke": Shape((steady(30, 60),), users=300),
    "ramp": Shape((Stage(60, 10, 200), steady(30, 200), Stage(10, 200, 10)), users=300),
    "spike": Shape((steady(20, 40), steady(5, 400), steady(35, 40)), users=300),
    "soak": Shape((steady(3600, 60),), users=300),
    "churn": Shape((steady(60, 40),), users=300, reconnects_per_s=5.0),
    "slow": Shape((steady(60, 60),), users=300, slow_share=0.1),
    "tiny": Shape((steady(5, 20),), users=8, reconnects_per_s=0.5),
}


class Plan(msgspec.Struct, frozen=True):
    """One load test."""

    addresses: tuple[str, ...]
    """Of the coordinators."""
    certificates: Path
    """Folder of the identities; an authority in it makes and renews them."""
    trust_domain: str
    shape: Shape
    mix: dict[str, float] = msgspec.field(default_factory=lambda: dict(MIX))
    spacing: Spacing = Spacing.POISSON
    seed: int = 1
    handshakes_per_s: float = 25.0
    """Users that begin each second: a handshake costs both sides milliseconds of a processor."""
    budget_s: float = 10.0
    """Longest that a request may take, attempts included."""
    thresholds: tuple[str, ...] = ("failures<=0%",)
    run: str = "run"
    """Part of the names of series that this run appends to; another one for each run."""
    sdk_per_s: float = 4.0
    """Requests a second of a user that asks by the SDK, in a process of its own; 0: none."""
    metrics: str = ""
    """``host:port`` at which the generator serves its own metrics; empty: nowhere."""
    answer: Path = Path("load.json")
    """Where the figures are written."""
    worker: int = 0
    """Which of ``workers`` generators this is: it has every ``workers``-th user and its share."""
    workers: int = 1


def check(plan: Plan) -> Plan:
    """Raise BadInput for what cannot be done; the plan itself otherwise."""
    wrong = set(plan.mix) - set(KINDS)
    if wrong:
        raise BadInput(f"mix names {', '.join(sorted(wrong))}: requests are {', '.join(KINDS)}")
    if not sum(plan.mix.values()) > 0 or min(plan.mix.values()) < 0:
        raise BadInput(f"mix {plan.mix}: give weights above 0, at least one")
    if not 1 <= plan.shape.users <= USERS_MAX:
        raise BadInput(f"{plan.shape.users} users: give 1 to {USERS_MAX:,}")
    if not plan.shape.stages:
        raise BadInput("a shape without stages asks for nothing: give it at least one")
    if not 0 <= plan.shape.slow_share <= 1 or plan.shape.reconnects_per_s < 0:
        raise BadInput("slow_share lies between 0 and 1, reconnects_per_s is not below 0")
    if not 0 <= plan.worker < plan.workers:
        raise BadInput(f"worker {plan.worker} of {plan.workers}: they are counted from 0")
    for each in plan.thresholds:
        thresholds.parse(each)
    return plan


def write(plan: Plan, path: Path) -> None:
    """Write it for another process."""
    path.write_bytes(msgspec.json.encode(plan, enc_hook=str))


def read(path: Path) -> Plan:
    """Read what `write` wrote; BadInput when it is no plan."""
    try:
        data = path.read_bytes()
        return check(msgspec.json.decode(data, type=Plan, dec_hook=lambda kind, raw: kind(raw)))
    except (OSError, msgspec.DecodeError) as error:
        raise BadInput(f"plan {path}: {error}") from error


def shape_of(text: str) -> Shape:
    """A shape by its name, or from a JSON file; BadInput names those that there are."""
    if text in SHAPES:
        return SHAPES[text]
    path = Path(text)
    if not path.is_file():
        raise BadInput(f"shape {text!r}: give one of {', '.join(SHAPES)}, or a file of JSON")
    try:
        return msgspec.json.decode(path.read_bytes(), type=Shape)
    except msgspec.DecodeError as error:
        raise BadInput(f"shape {path}: {error}") from error


def with_users(shape: Shape, users: int) -> Shape:
    """The same with another number of users."""
    return msgspec.structs.replace(shape, users=users)


def steadily(shape: Shape, stage: Stage) -> Shape:
    """The same users with one stage."""
    return msgspec.structs.replace(shape, stages=(stage,))


def at(plan: Plan, *addresses: str) -> Plan:
    """The same plan for coordinators at these addresses."""
    return msgspec.structs.replace(plan, addresses=addresses)


def mix_of(text: str) -> dict[str, float]:
    """Read ``match=1,lookup=3``; BadInput says what is wrong."""
    mix: dict[str, float] = {}
    for part in text.split(","):
        name, _, weight = part.partition("=")
        try:
            mix[name.strip()] = float(weight)
        except ValueError:
            raise BadInput(f"mix {text!r}: write it as match=1,lookup=3") from None
    return mix
