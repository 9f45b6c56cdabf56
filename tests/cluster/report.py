"""What a load and disturbances came to: a table of events, and the audit of what was acknowledged.

    python -m tests.cluster.report --load load.jsonl --events events.jsonl --markdown table.md
    python -m tests.cluster inside .venv/bin/python -m tests.cluster.report --load load.jsonl
        --dsn 'postgresql://midstreamer@HOST/midstreamer?sslmode=verify-full&sslrootcert=ca.pem'
        --password-file password --address POD-ADDRESS

With --dsn every acknowledged key is looked for in PostgreSQL: each tick and each decision must be
there exactly once and as it was acknowledged.  Run it where that address is reached, when the load
has ended.  --address is where HOST is: the certificate is verified for HOST, which need not be
known to DNS here.  Over a network a verified TLS connection is the only one that is made.
--faults derives the whole store again as well, as `midstreamer db check` does.

It ends with 0 when everything held, 1 when something did not, 2 when it could not be judged.
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
from tests.cluster import events, host
from tests.load import audit
from tests.load.records import BadRecords, Heard

CONNECT_S, QUERY_S = 10.0, 120.0
SHOWN = 5
"""Of each kind of fault; the others are counted."""


def heard_of(files: Sequence[Path]) -> Heard:
    """All that the loads of these files told; raises BadRecords, OSError."""
    heard = Heard()
    for path in files:
        with path.open(encoding="utf-8") as lines:
            heard.read(str(path), lines)
    return heard


def happened(path: Path | None) -> list[events.Event]:
    """The events of a file; raises BadRecords, OSError."""
    if path is None:
        return []
    with path.open(encoding="utf-8") as lines:
        return events.read(str(path), lines)


def some(title: str, found: Sequence[str]) -> list[str]:
    """The first of many faults, and how many more there are."""
    told = [f"{title}: {each}" for each in found[:SHOWN]]
    more = len(found) - SHOWN
    return [*told, f"{title}: {more} more"] if more > 0 else told


# --- the store --------------------------------------------------------------------------------


def lead_to(address: str, names: Sequence[str]) -> None:
    """Let this event loop find these host names at an address; TLS still verifies the names."""
    loop = asyncio.get_running_loop()
    ask = loop.getaddrinfo

    async def answer(name: Any, *more: Any, **also: Any) -> Any:
        return await ask(address if name in names else name, *more, **also)

    loop.getaddrinfo = answer  # type: ignore[method-assign,assignment]


async def audited(heard: Heard, source: str, address: str, *, faults: bool) -> list[str]:
    """What is lost of what was acknowledged, and what contradicts itself in the store.

    Raises ConfigError for a DSN that is none or does not verify; OSError, asyncpg's errors.
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
    """The arguments; ends the process with a message where they cannot be."""
    shown = argparse.RawDescriptionHelpFormatter
    made = argparse.ArgumentParser(
        "python -m tests.cluster.report", description=__doc__, formatter_class=shown
    )
    made.add_argument("--load", required=True, type=Path, action="append", help="can be repeated")
    made.add_argument("--events", type=Path, help="file of tests.cluster.disturbing")
    made.add_argument("--markdown", type=Path, help="write the table there too")
    made.add_argument("--limit-s", type=float, help="of each answer; default: by kinds of events")
    made.add_argument("--dsn", default="", help="where to look for what was acknowledged")
    made.add_argument("--password-file", type=Path, help="of the user of --dsn")
    made.add_argument("--address", default="", help="IP address of the host of --dsn")
    made.add_argument("--faults", action="store_true", help="derive the whole store again")
    arguments = made.parse_args(words)
    if not arguments.dsn and (arguments.password_file or arguments.address or arguments.faults):
        made.error("--password-file, --address and --faults are for --dsn, which is not given")
    return arguments


def judged(arguments: argparse.Namespace) -> list[str]:
    """Print the table, look into the store, and return all that did not hold."""
    heard = heard_of(arguments.load)
    rows = events.rows(happened(arguments.events), heard.requests, arguments.limit_s)
    host.say(events.plain(rows))
    if arguments.markdown:
        arguments.markdown.write_text(events.markdown(rows), encoding="utf-8")
    broken = events.broken(rows, len(heard.requests)) + some("troubles", heard.troubles)
    said = f"acknowledged: {heard.ticks:,} ticks, {len(heard.decisions):,} decisions"
    if not arguments.dsn:
        host.say(f"{said}; not looked for in PostgreSQL: no --dsn")
        return broken
    if arguments.password_file:
        os.environ["PGPASSWORD"] = arguments.password_file.read_text(encoding="utf-8").strip()
    looking = audited(heard, arguments.dsn, arguments.address, faults=arguments.faults)
    wrong = asyncio.run(looking)
    host.say(f"{said}; {'each is stored exactly once' if not wrong else 'NOT all are stored'}")
    return broken + wrong


def main() -> int:
    """Judge; returns the exit code."""
    arguments = parsed()
    logs.configure(json=False, level="error")
    try:
        broken = judged(arguments)
    except BadRecords as error:
        return refused(str(error))
    except MidstreamerError as error:
        return refused(f"error[{error.code}]: {error.message}")
    except socket.gaierror as error:
        return refused(f"the host of --dsn has no address here ({error}): name it by --address")
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        return refused(f"{type(error).__name__}: {error}")
    for each in broken:
        host.say(f"does not hold: {each}")
    return 1 if broken else 0


def refused(why: str) -> int:
    """Say why nothing can be judged; returns the exit code."""
    sys.stderr.write(f"report: {why}\n")
    return 2


if __name__ == "__main__":
    sys.exit(main())
