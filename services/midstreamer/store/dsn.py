"""Checks a PostgreSQL DSN before it is used, and hides its password wherever it is printed.

`Dsn` is the type of the setting; its text form never contains secrets.  If a DSN can be parsed
without doubt, its user, hosts, database and harmless options are shown.  Otherwise nothing of it is
shown, because any misparsed piece may be a part of the password.  `problem` returns in one sentence
why a DSN cannot be used.

`sslmode=require` encrypts without verifying the server, and ``prefer`` falls back to no encryption.
So a DSN that leads to another machine must say verify-ca or verify-full; without an sslmode it gets
verify-full.  Unix sockets and loopback addresses need no TLS.
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Callable, Mapping
from typing import Annotated, Any, ClassVar
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit, urlunsplit

from pydantic import GetCoreSchemaHandler, PlainSerializer, PlainValidator, WithJsonSchema

from midstreamer.domain.errors import ConfigError

FORM = "postgresql://user@host/database?sslmode=verify-full"
"""Example of a DSN, for error messages."""
HIDDEN = "***"
"""Text that replaces a secret."""
_SCHEMES = ("postgresql", "postgres")
_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
_VERIFIED = ("verify-ca", "verify-full")
_SERVICE = ("service", "servicefile")
_HARMLESS = frozenset(
    {"host", "port", "dbname", "database", "user", "sslmode", "sslrootcert", "sslcert", "sslkey",
     "sslcrl", "sslnegotiation", "application_name", "connect_timeout", "target_session_attrs",
     "ssl_min_protocol_version", "ssl_max_protocol_version", "passfile", "krbsrvname", *_SERVICE}
)  # fmt: skip
"""Options of a DSN whose values hold no secret and may be shown."""

_CLEAN = re.compile(
    r"""
    (?P<head>[a-z][a-z0-9+.-]*://)
    (?:(?P<user>[^\s:/?#@]*)(?P<password>:[^\s/?#@]*)?(?P<at>@))?
    (?P<hosts>[^\s/?#@]*)
    (?P<path>/[^\s?#@]*)?
    (?:\?(?P<query>[^\s#]*))?
    """,
    re.VERBOSE,
)
_HOST = re.compile(r"(?:\[[0-9A-Fa-f:.]+(?:%25\w+)?\]|[^:\[\]]*)(?::(?P<port>[0-9]{1,5}))?")
_OPTION = re.compile(r"[A-Za-z_][\w.]*=")
_ODD = re.compile(r"[\s\x00-\x1f\x7f]")
_NOT_TEXT = re.compile(r"[\ud800-\udfff]")
"""Surrogates: Python puts them in place of environment bytes that are not UTF-8."""
_HALF_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")


class Dsn:
    """A DSN as the value of a setting; `str` and `repr` return it without its secrets."""

    holds_secrets: ClassVar[bool] = True
    """Tells `runtime.config` that values of this setting may hold a secret, even before they are
    parsed. It must print them only as `Dsn.shown` returns them."""
    __slots__ = ("_text",)

    def __init__(self, text: str = "") -> None:
        self._text = text

    def reveal(self) -> str:
        """Return the full DSN with its secrets; use it only to connect."""
        return self._text

    @property
    def has_password(self) -> bool:
        """Whether this DSN contains a password."""
        parts = urlsplit(self._text)
        return bool(parts.password) or "password" in dict(parse_qsl(parts.query))

    def __str__(self) -> str:
        return shown(self._text)

    def __repr__(self) -> str:
        return f"Dsn({shown(self._text)!r})"

    def __bool__(self) -> bool:
        return bool(self._text)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Dsn) and other._text == self._text

    def __hash__(self) -> int:
        return hash(self._text)

    @staticmethod
    def shown(value: object) -> str:
        """Return a value of this setting, parsed or not, as text without its secrets."""
        if isinstance(value, Dsn):
            return str(value)
        return shown(value) if isinstance(value, str) else HIDDEN

    @classmethod
    def _validated(cls, value: object) -> Dsn:
        parsed = value if isinstance(value, Dsn) else None
        if isinstance(value, str):
            parsed = cls(value)
        if parsed is None:
            raise ValueError(f"it must be text of the form {FORM}")
        if parsed and (fault := problem(parsed.reveal())):
            raise ValueError(fault)
        return parsed

    @classmethod
    def __get_pydantic_core_schema__(cls, _source: Any, handler: GetCoreSchemaHandler) -> Any:
        return handler.generate_schema(
            Annotated[
                Any,
                PlainValidator(cls._validated),
                PlainSerializer(str, when_used="json-unless-none"),
                WithJsonSchema({"type": "string"}),
            ]
        )


def checked(
    dsn: str | Dsn, environment: Mapping[str, str] | None = None, *, by_fleet: bool = False
) -> str:
    """Return the DSN to connect with.

    If it leads to another machine, it gets an sslmode that verifies the server.  ``environment``
    holds environment variables, by default those of this process.

    ``by_fleet`` says that the caller verifies the server with the fleet's own certificate
    authorities.  Then the server is verified even if it runs on this machine, and the DSN is
    returned as it is.  Raise ConfigError if the DSN cannot be used; the message never contains the
    password.
    """
    environment = os.environ if environment is None else environment
    dsn = dsn.reveal() if isinstance(dsn, Dsn) else dsn
    if fault := problem(dsn):
        raise ConfigError(f"sync.dsn = {shown(dsn)!r}: {fault}")
    _check_no_service(dsn, environment)
    parts = urlsplit(dsn)
    query = dict(parse_qsl(parts.query))
    if by_fleet:
        _check_for_fleet(dsn, query, hosts(dsn, environment))
        return dsn
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


def _check_for_fleet(dsn: str, query: Mapping[str, str], named: list[str]) -> None:
    """Raise ConfigError unless the fleet's authorities can verify the server of this DSN.

    The DSN must name a host, which is compared with the server's certificate.  It must not name
    files for TLS, such as sslrootcert, because they would be ignored.
    """
    setting = f"sync.dsn = {shown(dsn)!r} with sync.database_trust = 'fleet':"
    if query.get("sslmode", "verify-full") != "verify-full":
        raise ConfigError(f"{setting} sslmode must be verify-full, or left out")
    if given := [key for key in ("sslrootcert", "sslcrl", "sslcert", "sslkey") if key in query]:
        raise ConfigError(f"{setting} {given[0]} would have no effect; leave it out")
    if not named or any(host.startswith(("/", "@", "%2F", "%2f")) for host in named):
        raise ConfigError(
            f"{setting} the DSN must name the host that the database's certificate is for"
        )


def _check_no_service(dsn: str, environment: Mapping[str, str]) -> None:
    """Raise ConfigError if the DSN or the environment names a connection service file.

    Such a file may set any host, user and TLS mode, which this module would not see.
    """
    query = dict(parse_qsl(urlsplit(dsn).query, keep_blank_values=True))
    named = [f"sync.dsn = {shown(dsn)!r}: {key}" for key in _SERVICE if key in query]
    named += [f"environment variable PG{key.upper()}" for key in _SERVICE
              if environment.get(f"PG{key.upper()}")]  # fmt: skip
    if named:
        raise ConfigError(
            f"{named[0]} names a connection service file, whose TLS mode cannot be checked: write"
            " host, database and sslmode into sync.dsn instead"
        )


# --- DSN problems ---------------------------------------------------------------------------------


def problem(dsn: str) -> str:
    """Return why this text cannot be used as a DSN, or an empty string if it can.

    The answer quotes nothing of the text, because any piece may be a part of the password.
    """
    return next((fault for rule in _RULES if (fault := rule(dsn))), "")


def _form(dsn: str) -> str:
    scheme, url, _ = dsn.partition("://")
    if not url and re.search(r"\w\s*=", dsn):
        return f"it has the form `host=… password=…`; write it as a URL, {FORM}"
    return "" if scheme in _SCHEMES else f"it does not begin with postgresql://; write {FORM}"


def _characters(dsn: str) -> str:
    if _ODD.search(dsn):
        return "it holds a space or a control character: write a space as %20"
    if _NOT_TEXT.search(dsn):
        return (
            "it holds a byte that is not UTF-8 text: write the byte as % and two hexadecimal digits"
        )
    if _HALF_ESCAPE.search(dsn):
        return "a % in it is not followed by two hexadecimal digits: write % itself as %25"
    if "%00" in dsn:
        return "it holds %00, which PostgreSQL does not accept: leave it out"
    return ""


def _separators(dsn: str) -> str:
    rest = dsn.partition("://")[2]
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    remedy = "in a user or password write / ? # @ and % as %2F %3F %23 %40 and %25"
    if authority.count("@") > 1:
        return f"more than one @ stands before its database: {remedy}"
    if "@" not in authority and "@" in rest:
        return f"an @ stands after its first / ? or #: {remedy}"
    return f"it holds a #, which ends a URL: {remedy}" if "#" in rest else ""


def _hosts(dsn: str) -> str:
    found = _CLEAN.fullmatch(dsn)
    if found is None:
        return f"it does not read as a URL: write {FORM}"
    several = found["hosts"].split(",") if found["hosts"] else []
    for number, host in enumerate(several, start=1):
        matched = _HOST.fullmatch(host)
        if not host or matched is None:
            return f"host {number} of {len(several)} is not host, host:port or [IPv6]:port"
        if matched["port"] and not 1 <= int(matched["port"]) <= 65535:
            return f"the port of host {number} of {len(several)} is not 1 to 65535"
    return ""


def _options(dsn: str) -> str:
    query = dsn.partition("?")[2]
    if not all(_OPTION.match(unquote(each)) for each in query.split("&") if query):
        return "what follows its ? is not option=value&option=value"
    given = dict(parse_qsl(query, keep_blank_values=True))
    if "sslmode" in given and given["sslmode"] not in _MODES:
        return f"its sslmode is none of {', '.join(_MODES)}"
    if "port" in given and not re.fullmatch(r"\d{1,5}(,\d{1,5})*", given["port"]):
        return "its option port is not a number, nor numbers separated by commas"
    if "host" in given and not all(given["host"].split(",")):
        return "its option host names an empty host"
    return ""


def _reading(dsn: str) -> str:
    try:
        urlsplit(dsn)
    except ValueError:
        return f"it does not read as a URL: write {FORM}"
    return ""


_RULES: tuple[Callable[[str], str], ...] = (
    _form, _separators, _characters, _hosts, _options, _reading,
)  # fmt: skip


# --- DSN hosts ------------------------------------------------------------------------------------


def hosts(dsn: str, environment: Mapping[str, str]) -> list[str]:
    """Return every host that libpq may connect to with this DSN and environment.

    An empty list means the default Unix socket.
    """
    parts = urlsplit(dsn)
    address = parts.netloc.rpartition("@")[2]
    given = address or dict(parse_qsl(parts.query)).get("host") or environment.get("PGHOST", "")
    return [_without_port(host) for host in given.split(",") if host]


def _without_port(host: str) -> str:
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.rpartition(":")[0] if host.count(":") == 1 else host


def is_local(host: str) -> bool:
    """Return whether this host is a Unix socket or a loopback address of this machine."""
    if host.startswith(("/", "@", "%2F", "%2f")) or host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


# --- printing without secrets ---------------------------------------------------------------------


def shown(dsn: str) -> str:
    """Return the DSN without its secrets; return `HIDDEN` if a secret could be anywhere in it."""
    if not dsn:
        return ""
    found = _CLEAN.fullmatch(dsn)
    query = (found["query"] or "") if found else ""
    options = [each for each in query.split("&") if each]
    if (
        found is None
        or not all(_HOST.fullmatch(host) for host in found["hosts"].split(","))
        or not all(_OPTION.match(unquote(each)) for each in options)
        or (found["at"] is None and "@" in query)
    ):
        return HIDDEN
    account = f"{found['user']}{':' + HIDDEN if found['password'] else ''}" if found["at"] else ""
    settings = "&".join(_option_shown(each) for each in options)
    return (
        f"{found['head']}{account}{found['at'] or ''}{found['hosts']}{found['path'] or ''}"
        f"{'?' if settings else ''}{settings}"
    )


def _option_shown(option: str) -> str:
    key, _, _ = option.partition("=")
    return option if unquote(key) in _HARMLESS else f"{key}={HIDDEN}"
