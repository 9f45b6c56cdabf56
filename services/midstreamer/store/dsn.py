"""Judges a DSN before anything is sent to it: over a network only TLS with verification will do.

``sslmode=require`` encrypts to whoever answers; ``prefer`` gives in to whoever says no.  So a
DSN that leaves this machine must say verify-ca or verify-full, and one that says nothing gets
verify-full.  Sockets and loopback addresses are left alone.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Mapping
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

from midstreamer.domain.errors import ConfigError

_VERIFIED = ("verify-ca", "verify-full")
_SERVICE = ("service", "servicefile")


def checked(dsn: str, environment: Mapping[str, str] | None = None) -> str:
    """The DSN to use; ConfigError says what is wrong with this one and never shows a password."""
    environment = os.environ if environment is None else environment
    parts = urlsplit(dsn)
    _check_no_service(dsn, environment)
    if parts.scheme not in {"postgresql", "postgres"}:
        raise ConfigError(
            f"sync.dsn = {shown(dsn)!r} is not postgresql://user@host/database?sslmode=verify-full"
        )
    query = dict(parse_qsl(parts.query))
    remote = [host for host in hosts(dsn, environment) if not is_local(host)]
    if not remote:
        return dsn
    mode = query.get("sslmode", environment.get("PGSSLMODE", ""))
    if mode and mode not in _VERIFIED:
        raise ConfigError(
            f"sync.dsn = {shown(dsn)!r}: sslmode={mode} does not verify {remote[0]}, which is"
            " reached over a network; use sslmode=verify-full and sslrootcert=FILE"
        )
    query["sslmode"] = mode or "verify-full"
    return urlunsplit(parts._replace(query=urlencode(query, quote_via=quote, safe="/")))


def _check_no_service(dsn: str, environment: Mapping[str, str]) -> None:
    """A service file may name any host, user and TLS mode, and is read behind our back."""
    query = dict(parse_qsl(urlsplit(dsn).query, keep_blank_values=True))
    named = [f"sync.dsn = {shown(dsn)!r}: {key}" for key in _SERVICE if key in query]
    named += [f"environment variable PG{key.upper()}" for key in _SERVICE
              if environment.get(f"PG{key.upper()}")]  # fmt: skip
    if named:
        raise ConfigError(
            f"{named[0]} leads to a connection service file, which is not checked for TLS: write"
            " host, database and sslmode into sync.dsn instead"
        )


def hosts(dsn: str, environment: Mapping[str, str]) -> list[str]:
    """Every host the DSN may lead to, as libpq reads it; empty means the default socket."""
    parts = urlsplit(dsn)
    address = parts.netloc.rpartition("@")[2]
    given = address or dict(parse_qsl(parts.query)).get("host") or environment.get("PGHOST", "")
    return [_without_port(host) for host in given.split(",") if host]


def _without_port(host: str) -> str:
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.rpartition(":")[0] if host.count(":") == 1 else host


def is_local(host: str) -> bool:
    """Whether packets to this host stay on this machine."""
    if host.startswith(("/", "@", "%2F", "%2f")) or host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def shown(dsn: str) -> str:
    """The DSN without its password, for messages."""
    parts = urlsplit(dsn)
    account, at, address = parts.netloc.rpartition("@")
    hidden = account.partition(":")[0] + ":***" if ":" in account else account
    kept = [(key, "***" if "pass" in key else value) for key, value in parse_qsl(parts.query)]
    query = urlencode(kept, quote_via=quote, safe="/*")
    return urlunsplit(parts._replace(netloc=hidden + at + address, query=query))
