"""A load test user that sends requests with the SDK, so that the SDK is measured too.

    python -m loadtests.user_of_sdk PLAN

The user runs in its own process.  It starts requests at times that are fixed in advance, and prints
a line of JSON for each request that has ended.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from pathlib import Path

from loadtests import identities, load_plan, start_times, user_requests
from midstreamer import AsyncClient, Tick
from midstreamer.cli.peer_credentials import carrier
from midstreamer.domain.errors import MidstreamerError
from midstreamer.runtime.config import LimitSettings, SecuritySettings
from midstreamer.telemetry import logs


def command(path: Path) -> list[str]:
    """Return the command line that starts the SDK user with the plan in a file."""
    return [sys.executable, "-m", "loadtests.user_of_sdk", str(path)]


async def ask(made: load_plan.Plan) -> None:
    """Send appends and matches alternately at their planned times, until the shape ends."""
    security = SecuritySettings(directory=made.certificates, trust_domain=made.trust_domain)
    me = carrier(identities.sdk(made.trust_domain, made.worker), security, LimitSettings())
    specification, dice = user_requests.specification(), random.Random(made.seed + made.worker)
    asked = user_requests.windows(user_requests.history(), specification.window)
    stages = (start_times.steady(start_times.length_s(made.shape.stages), made.sdk_per_s),)
    client = AsyncClient(me, list(made.addresses), deadline_s=made.budget_s)

    async def send(kind: str, number: int, due_s: float) -> None:
        sent_s, code = time.monotonic(), ""
        try:
            if kind == "append":
                micros = user_requests.BEGIN + number * user_requests.MINUTE
                tick = Tick(
                    f"{identities.TICKS}/{made.run}-sdk-{made.worker}", micros, float(number)
                )
                await client.append([tick])
            else:
                await client.match_many([dice.choice(asked)], specification, record=False)
        except MidstreamerError as error:
            code = error.code
        now_s = time.monotonic()
        result = {"kind": kind, "latency_s": now_s - due_s, "service_s": now_s - sent_s}
        print(json.dumps(result | {"code": code}), flush=True)

    async with client, asyncio.TaskGroup() as group:
        begin_s = time.monotonic() + 0.1
        for number, after_s in enumerate(
            start_times.arrivals(stages, seed=made.seed + 1 + made.worker)
        ):
            due_s = begin_s + after_s
            await asyncio.sleep(max(0.0, due_s - time.monotonic()))
            kind = "append" if number % 2 else "match"
            asking = group.create_task(send(kind, number, due_s))
            if kind == "append":
                await asking  # one append at a time: ticks of a series must arrive in order


def main() -> int:
    """Read the plan from the file in the first argument, and send its requests."""
    logs.configure(json=False, level="error")
    asyncio.run(ask(load_plan.read(Path(sys.argv[1]))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
