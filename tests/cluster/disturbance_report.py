"""Report on a load and its disturbances: a table of events, and an audit of the stored data.

    python -m tests.cluster.disturbance_report --load load.jsonl --events events.jsonl

    python -m tests.cluster inside .venv/bin/python -m tests.cluster.disturbance_report
        --load load.jsonl --password-file password --address POD-ADDRESS
        --dsn 'postgresql://midstreamer@HOST/midstreamer?sslmode=verify-full&sslrootcert=ca.pem'

With --dsn, every tick and every decision that the fleet acknowledged to the load is looked up in
PostgreSQL.  It must be stored exactly once, with the acknowledged content.  Run this audit after
the load has ended, on a machine or in a network namespace that reaches the database.  --address
gives the IP address of HOST, so that HOST need not be known to DNS; its certificate is still
verified for HOST.  Over a network, only a connection with verified TLS is made.  With --faults,
every derived value in PostgreSQL is also computed again and compared with the stored value, as
`midstreamer db check` does.

The exit code is 0 when every check passed, 1 when a check failed, 2 when no check was possible.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import asyncpg

from midstreamer.domain.errors import MidstreamerError
from midstreamer.store import dsn
from midstreamer.telemetry import logs
from tests.cluster import commands_here, load_judgement
from tests.load import audit
from tests.load.client_reports import BadRecords, Heard

CONNECT_S, QUERY_S = 10.0, 120.0
SHOWN = 5
"""How many faults of each kind are printed; further faults are only counted."""


def heard_of(files: Sequence[Path]) -> Heard:
    """Return the records of all loads in these files; raises BadRecords, OSError."""
    heard = Heard()
    for path in files:
        with path.open(encoding="utf-8") as lines:
            heard.read(str(path), lines)
    return heard


def happened(path: Path | None) -> list[load_judgement.Event]:
    """Return the events of a file; none if no file is given. Raises BadRecords, OSError."""
    if path is None:
        return []
    with path.open(encoding="utf-8") as lines:
        return load_judgement.read(str(path), lines)


def some(title: str, found: Sequence[str]) -> list[str]:
    """Return a line for each of the first SHOWN faults; a last line counts those left out."""
    lines = [f"{title}: {each}" for each in found[:SHOWN]]
    more = len(found) - SHOWN
    return [*lines, f"{title}: {more} more"] if more > 0 else lines


# --- the store --------------------------------------------------------------------------------


def lead_to(address: str, names: Sequence[str]) -> None:
    """Make this event loop resolve some host names to `address`; TLS still verifies the names."""
    loop = asyncio.get_running_loop()
    ask = loop.getaddrinfo

    async def answer(name: Any, *more: Any, **also: Any) -> Any:
        return await ask(address if name in names else name, *more, **also)

    loop.getaddrinfo = answer  # type: ignore[method-assign,assignment]


async def audited(heard: Heard, source: str, address: str, *, faults: bool) -> list[str]:
    """Return lines for acknowledged data that is not stored exactly once and unchanged.

    With `faults`, also return lines for the faults that `midstreamer db check` finds.  Raises
    OSError and asyncpg's errors.  Raises ConfigError when the DSN is invalid, or has no verified
    TLS.
    """
    checked = dsn.checked(source)
    if address:
        lead_to(address, dsn.hosts(checked, os.environ))
    connection = await asyncpg.connect(checked, timeout=CONNECT_S, command_timeout=QUERY_S)
    try:
        found = await audit.stored(connection, heard)
    finally:
        await connection.close()
    wrong = some("lost", audit.lost(heard, found))
    return wrong + some("faults", await audit.faults(checked)) if faults else wrong


# --- the command line -------------------------------------------------------------------------


def parsed(words: list[str] | None = None) -> argparse.Namespace:
    """Return the arguments; end the process with a message when they are invalid."""
    shown = argparse.RawDescriptionHelpFormatter
    root = argparse.ArgumentParser(
        "python -m tests.cluster.disturbance_report", description=__doc__, formatter_class=shown
    )
    root.add_argument(
        "--load", required=True, type=Path, action="append", help="file of a load; repeatable"
    )
    root.add_argument("--events", type=Path, help="file of tests.cluster.disturb")
    root.add_argument("--markdown", type=Path, help="also write the table to this file")
    root.add_argument("--limit-s", type=float, help="limit of latency; default: by kind of event")
    root.add_argument("--dsn", default="", help="the database to audit")
    root.add_argument("--password-file", type=Path, help="password of the user of --dsn")
    root.add_argument("--address", default="", help="IP address of the host of --dsn")
    root.add_argument("--faults", action="store_true", help="derive the whole store again")
    arguments = root.parse_args(words)
    if not arguments.dsn and (arguments.password_file or arguments.address or arguments.faults):
        root.error("--password-file, --address and --faults need --dsn, which is not given")
    return arguments


def judged(arguments: argparse.Namespace) -> list[str]:
    """Print the table, audit the store, and return a line for each check that failed."""
    heard = heard_of(arguments.load)
    rows = load_judgement.rows(happened(arguments.events), heard.requests, arguments.limit_s)
    commands_here.say(load_judgement.plain(rows))
    if arguments.markdown:
        arguments.markdown.write_text(load_judgement.markdown(rows), encoding="utf-8")
    broken = load_judgement.broken(rows, len(heard.requests)) + some("troubles", heard.troubles)
    counts = f"acknowledged: {heard.ticks:,} ticks, {len(heard.decisions):,} decisions"
    if not arguments.dsn:
        commands_here.say(f"{counts}; not looked up in PostgreSQL, because --dsn is not given")
        return broken
    if arguments.password_file:
        os.environ["PGPASSWORD"] = arguments.password_file.read_text(encoding="utf-8").strip()
    looking = audited(heard, arguments.dsn, arguments.address, faults=arguments.faults)
    wrong = asyncio.run(looking)
    commands_here.say(
        f"{counts}; {'each is stored exactly once' if not wrong else 'NOT all are stored'}"
    )
    return broken + wrong


def main() -> int:
    """Run the checks; return the exit code."""
    arguments = parsed()
    logs.configure(json=False, level="error")
    try:
        broken = judged(arguments)
    except BadRecords as error:
        return refused(str(error))
    except MidstreamerError as error:
        return refused(f"error[{error.code}]: {error.message}")
    except socket.gaierror as error:
        return refused(f"the host of --dsn does not resolve ({error}): give --address")
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        return refused(f"{type(error).__name__}: {error}")
    for each in broken:
        commands_here.say(f"does not hold: {each}")
    return 1 if broken else 0


def refused(why: str) -> int:
    """Print why the checks were not possible; return the exit code 2."""
    sys.stderr.write(f"report: {why}\n")
    return 2


if __name__ == "__main__":
    sys.exit(main())
