"""The plan of a load test, as one value.

The command that starts the test writes the plan to a file. Locust and the SDK user read it there.

A shape is a sequence of stages (`start_times.Stage`) and the behaviour of the users in them.  To
add a shape, add an entry to `SHAPES` or write a JSON file with the same fields; see
docs/how-to/load-testing.md.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from loadtests import thresholds
from loadtests.start_times import Spacing, Stage, steady
from midstreamer.domain.errors import BadInput

KINDS = ("append", "match", "lookup", "survey", "refusal")
"""Types of requests that a weight may be given to; handshakes and reconnects have no weight."""
MIX = {"append": 30.0, "match": 20.0, "lookup": 45.0, "survey": 1.0, "refusal": 4.0}
"""Default weights of the types of requests: how often each type is drawn."""
USERS_MAX = 20_000
"""Maximum users of one load test."""
VARIABLE = "LOAD_PLAN"
"""Environment variable that names the file of the plan."""
STARTS = "the load starts"
"""Beginning of the line that a master prints when all users are connected; tests wait for it."""


class Shape(msgspec.Struct, frozen=True):
    """How the rate of requests changes over time, and what users do besides sending requests."""

    stages: tuple[Stage, ...]
    users: int
    reconnects_per_s: float = 0.0
    """Links per second that are closed and dialled again, of all users together."""
    slow_share: float = 0.0
    """Share of the users that repeatedly stop reading for a second, 0 to 1."""


SHAPES: dict[str, Shape] = {
    # A short test with 300 users: it ends after about a minute.
    "smoke": Shape((steady(30, 60),), users=300),
    "ramp": Shape((Stage(60, 10, 200), steady(30, 200), Stage(10, 200, 10)), users=300),
    "spike": Shape((steady(20, 40), steady(5, 400), steady(35, 40)), users=300),
    "soak": Shape((steady(3600, 60),), users=300),
    "churn": Shape((steady(60, 40),), users=300, reconnects_per_s=5.0),
    "slow": Shape((steady(60, 60),), users=300, slow_share=0.1),
    "tiny": Shape((steady(5, 20),), users=8, reconnects_per_s=0.5),
}


class Plan(msgspec.Struct, frozen=True):
    """Everything that the processes of one load test must know."""

    addresses: tuple[str, ...]
    """Addresses of the coordinators."""
    certificates: Path
    """Folder with the users' certificates; the authority in the folder issues and renews them."""
    trust_domain: str
    shape: Shape
    mix: dict[str, float] = msgspec.field(default_factory=lambda: dict(MIX))
    spacing: Spacing = Spacing.POISSON
    seed: int = 1
    handshakes_per_s: float = 25.0
    """Users that connect per second; limited, because handshakes cost processor time."""
    budget_s: float = 10.0
    """Longest time in seconds that a request may take, including retries."""
    thresholds: tuple[str, ...] = ("failures<=0%",)
    run: str = "run"
    """Part of the names of the series to which this run appends; it differs between runs."""
    sdk_per_s: float = 4.0
    """Requests per second of the user that uses the SDK, in its own process; 0: no such user."""
    metrics: str = ""
    """``host:port`` at which the generator serves its metrics; empty: not served."""
    answer: Path = Path("load.json")
    """File that the results are written to."""
    worker: int = 0
    """Index of this generator process, from 0 to ``workers`` - 1.

    The process runs the users whose number modulo ``workers`` is this index.
    """
    workers: int = 1


def check(plan: Plan) -> Plan:
    """Return the plan; raise BadInput if a value in it is invalid."""
    wrong = set(plan.mix) - set(KINDS)
    if wrong:
        raise BadInput(
            f"unknown in mix: {', '.join(sorted(wrong))}; the types of requests are"
            f" {', '.join(KINDS)}"
        )
    if not sum(plan.mix.values()) > 0 or min(plan.mix.values()) < 0:
        raise BadInput(f"mix {plan.mix}: give weights of at least 0, and one above 0")
    if not 1 <= plan.shape.users <= USERS_MAX:
        raise BadInput(f"{plan.shape.users} users: give 1 to {USERS_MAX:,}")
    if not plan.shape.stages:
        raise BadInput("the shape has no stages: give at least one")
    if not 0 <= plan.shape.slow_share <= 1 or plan.shape.reconnects_per_s < 0:
        raise BadInput("give a slow_share from 0 to 1, and reconnects_per_s of at least 0")
    if not 0 <= plan.worker < plan.workers:
        raise BadInput(f"worker {plan.worker} of {plan.workers}: workers are counted from 0")
    for each in plan.thresholds:
        thresholds.parse(each)
    return plan


def write(plan: Plan, path: Path) -> None:
    """Write the plan to a JSON file, for other processes."""
    path.write_bytes(msgspec.json.encode(plan, enc_hook=str))


def read(path: Path) -> Plan:
    """Return the plan in a file; raise BadInput if the file has no valid plan."""
    try:
        data = path.read_bytes()
        return check(msgspec.json.decode(data, type=Plan, dec_hook=lambda kind, raw: kind(raw)))
    except (OSError, msgspec.DecodeError) as error:
        raise BadInput(f"plan {path}: {error}") from error


def shape_of(text: str) -> Shape:
    """Return the shape with a name in `SHAPES`, or from a JSON file; raise BadInput if neither."""
    if text in SHAPES:
        return SHAPES[text]
    path = Path(text)
    if not path.is_file():
        raise BadInput(f"shape {text!r}: give one of {', '.join(SHAPES)}, or a JSON file")
    try:
        return msgspec.json.decode(path.read_bytes(), type=Shape)
    except msgspec.DecodeError as error:
        raise BadInput(f"shape {path}: {error}") from error


def with_users(shape: Shape, users: int) -> Shape:
    """Return the shape with another number of users."""
    return msgspec.structs.replace(shape, users=users)


def steadily(shape: Shape, stage: Stage) -> Shape:
    """Return the shape with ``stage`` as its only stage; the number of users stays the same."""
    return msgspec.structs.replace(shape, stages=(stage,))


def at(plan: Plan, *addresses: str) -> Plan:
    """Return the plan with these addresses of coordinators."""
    return msgspec.structs.replace(plan, addresses=addresses)


def mix_of(text: str) -> dict[str, float]:
    """Return the weight of each type of request, read from a text such as ``match=1,lookup=3``.

    Raise BadInput if the text is invalid.
    """
    mix: dict[str, float] = {}
    for part in text.split(","):
        name, _, weight = part.partition("=")
        try:
            mix[name.strip()] = float(weight)
        except ValueError:
            raise BadInput(f"mix {text!r}: write it as match=1,lookup=3") from None
    return mix
