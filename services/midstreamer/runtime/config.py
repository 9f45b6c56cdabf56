"""Settings: one frozen class per section of the configuration, and the origin of each value.

A class names its ``section``; its fields are the section's keys.  A later layer overrides an
earlier one, and the layer of each value is remembered:

    defaults < config.toml < environment < flags

A field whose type is itself a section (``telemetry``, ``limits``, ``security``) is shared:
``[telemetry]`` sets it for every process, ``[agent.telemetry]`` for agents only.  The environment
variables are ``MIDSTREAMER_TELEMETRY__LEVEL`` and ``MIDSTREAMER_AGENT__TELEMETRY__LEVEL``.

Only `load` reads files and the environment; creating a class directly, as tests do, reads nothing.
An unknown key is an error that names its source and the nearest known name, because a misspelt
limit would not be in force.
"""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple, TypeVar, cast

from pydantic import Field, PrivateAttr, ValidationError
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from midstreamer.domain.errors import ConfigError
from midstreamer.protocol import frame_deadlines, frames
from midstreamer.runtime.addresses import Place
from midstreamer.telemetry import logs

PREFIX = "MIDSTREAMER_"
FILE_VARIABLE = "MIDSTREAMER_CONFIG"
DEFAULT = "default"
FLAG_IS_PUBLIC = (
    "holds a password, or text that may be one: every user of this machine can see it in the list"
    " of processes. Set %s instead, or write it into a configuration file that only you can read"
)

SECTIONS = (
    "sync",
    "coordinator",
    "agent",
    "postgres",
    "client",
    "run",
    "operator",
    "telemetry",
    "security",
    "limits",
)
"""All sections that a configuration file may have; a test checks that each one has a class."""


class Settings(BaseSettings):
    """Base class of all sections: its objects are frozen, and an unknown key is an error."""

    section: ClassVar[str] = ""

    model_config = SettingsConfigDict(
        frozen=True,
        extra="forbid",
        hide_input_in_errors=True,
        use_attribute_docstrings=True,
        validate_default=True,
    )

    _origins: dict[str, str] = PrivateAttr(default_factory=dict)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Use only the values passed to the constructor; `load` gathers the other layers."""
        return (init_settings,)

    @property
    def origins(self) -> Mapping[str, str]:
        """Origin of each value, by dotted key; a key that is not in it has its default value."""
        return self._origins


class TelemetrySettings(Settings):
    """Logs, metrics and traces of a process."""

    section: ClassVar[str] = "telemetry"

    level: str = Field("info", pattern=f"^({'|'.join(logs.LEVELS)})$")
    """Lowest level that is logged: debug, info, warning or error."""
    json_logs: bool = False
    """Log one JSON object per line instead of text for a terminal; set it where programs read the
    logs."""
    listen: Place | None = "127.0.0.1:0"
    """Address that serves `/metrics`, `/livez`, `/readyz` and `/completez`, without authentication:
    keep it on loopback or inside a pod. Port 0 takes a free port, which the log line
    `health.opened` names."""
    traces: str = Field("off", pattern="^(off|log|otlp)$")
    """`log` writes each span as one log line `span.ended`, `otlp` sends spans to a collector; `off`
    makes no spans and costs nothing."""
    traces_endpoint: str = Field("http://127.0.0.1:4318", pattern=r"^https?://[^\s/@?#]+$")
    """URL, without a path, of the collector for `otlp` (OTLP over HTTP). Headers, and the authority
    of an https collector, come from the environment: `OTEL_EXPORTER_OTLP_HEADERS`,
    `OTEL_EXPORTER_OTLP_CERTIFICATE`."""
    traces_ratio: float = Field(1.0, ge=0, le=1)
    """Share of the traces beginning in this process that is kept. For a trace that began in another
    process, that process decides."""


class LimitSettings(Settings):
    """Limits for peers and their links; a peer above a limit gets an error that names the limit."""

    section: ClassVar[str] = "limits"

    frame_bytes_max: int = Field(frames.FRAME_BYTES_MAX, ge=4096, le=64 * 1024 * 1024)
    """Largest frame in bytes, in both directions. With a small limit histories load slowly, in many
    frames. With a large limit a peer can use that much memory for each of its streams."""
    in_flight_max: int = Field(256, ge=1, le=65536)
    """Maximum requests of one peer under way at once; more requests are answered `overloaded`."""
    links_max: int = Field(256, ge=1, le=65536)
    """Maximum connections that a server keeps at once; more connections are refused."""
    links_per_identity_max: int = Field(16, ge=2, le=65536)
    """Maximum connections of one identity at once, so that one identity cannot use up `links_max`.
    A process needs one or two. Connections of a killed process remain for `idle_s`."""
    handshake_s: float = Field(5.0, gt=0, le=60)
    """Maximum seconds that a new connection may take for its handshake before it is closed."""
    frame_s: float = Field(frame_deadlines.FRAME_S, gt=0, le=3600)
    """Maximum seconds from the first byte of a frame to its last, plus one second for each 16 kB of
    it received. This closes the connection of a peer that stops inside a frame, but not of a slow
    peer."""
    idle_s: float = Field(5.0, ge=1, le=600)
    """Seconds without a packet after which a connection counts as lost; keepalives are sent after a
    third of that time. After a server has restarted on the same port, its peers notice the restart
    only when this time has passed. If the time is longer, a peer can stall for longer without
    losing its connection."""
    link_age_s: float = Field(3600.0, ge=1, le=1e7)
    """Seconds after which a connection that this process dialled is replaced by a new one, at
    random up to a fifth earlier. No request is lost. So coordinators that were added later get
    connections too."""


class SecuritySettings(Settings):
    """Certificates of this process, and the peers that it accepts."""

    section: ClassVar[str] = "security"

    directory: Path = Path("var/certs")
    """Folder with the bundle of trusted authorities and this process's certificate and key."""
    trust_domain: str = "midstreamer.local"
    """First part of every identity; peers of another trust domain are refused."""
    allowlist: Path | None = None
    """File of allowed peers, one `<kind>/<id>` or `<kind>/<prefix>*` per line. It is read again
    when it changes, and a peer that was removed loses its connection. `universes=<name>,<name>`
    after an entry limits the universes to which these clients may append. None: the file
    `allowlist` in `directory`."""
    proxy: str = Field("", pattern="^(|environment|http://[^@]*)$")
    """HTTP proxy for dialling `wss://`, by CONNECT: `http://<host>:<port>`, or `environment` for
    the variables HTTPS_PROXY, ALL_PROXY and NO_PROXY. Empty: no proxy, whatever the environment
    says. A password belongs in the environment, not here."""
    key: Literal["file", "memory", "cluster"] = "file"
    """Where sync, coordinators and agents keep their private key. `file`: in `directory`, with the
    certificate. `memory`: each start makes a new key, which is never written to disk, and has it
    certified by the authority in `directory`; only the authority, its bundle and the allowlist are
    read there. `cluster`: as `memory`, in a Kubernetes pod, but the operator of `release` certifies
    the key; the identity is `<kind>/<namespace>/<pod>/<uid>`. Commands always use files."""
    release: str = "midstreamer"
    """Used only if `key = "cluster"`: name of the installation whose operator certifies the pod."""
    renew_before_days: float = Field(30.0, gt=0, le=3650)
    """Days before its expiry at which a certificate in a file is replaced. With the key in memory,
    a certificate is replaced after two thirds of its life."""


S = TypeVar("S", bound=Settings)


class Row(NamedTuple):
    """One setting, as the command `config show` prints it."""

    key: str
    value: str
    origin: str


_Layer = dict[str, tuple[Any, str]]
"""What one layer sets in one section: a dict from a dotted key to (value, origin)."""


def default_config_file(environ: Mapping[str, str] = os.environ) -> Path | None:
    """Return the default file: $MIDSTREAMER_CONFIG, else config.toml if it exists, else None."""
    named = environ.get(FILE_VARIABLE)
    if named:
        return Path(named)
    here = Path("config.toml")
    return here if here.is_file() else None


def load(
    cls: type[S],
    *,
    config_file: Path | None = None,
    overrides: Mapping[str, Any] | None = None,
    environ: Mapping[str, str] = os.environ,
) -> S:
    """Return one section's settings from all layers; ConfigError names source, key and remedy.

    ``overrides`` are flags by dotted key (``{"telemetry.level": "debug"}``); a flag with the value
    None was not given and is ignored.
    """
    tables = _read(config_file) if config_file else {}
    _check_environment(environ)
    values: _Layer = {}
    for layer in (
        *_file_layers(cls, tables, config_file),
        *_environment_layers(cls, environ),
        _flag_layer(cls, overrides or {}),
    ):
        values.update(layer)
    try:
        settings = cls(**_nested(cls, values))
    except ValidationError as error:
        raise ConfigError(_explain(cls, error, values)) from error
    settings._origins.update({key: origin for key, (_, origin) in values.items()})
    return settings


def show(settings: Settings) -> list[Row]:
    """Return every key of a section with its value and origin; passwords are hidden."""
    rows = []
    for key in keys(type(settings)):
        value: Any = settings
        for part in key.split("."):
            value = getattr(value, part)
        origin = settings.origins.get(key, DEFAULT)
        rows.append(Row(f"{settings.section}.{key}", logs.scrub(str(value)), origin))
    return rows


def keys(cls: type[Settings]) -> list[str]:
    """Return all dotted keys of a class, including the keys of its shared sections."""
    found = []
    for name, field in cls.model_fields.items():
        group = _group(field.annotation)
        found += [f"{name}.{inner}" for inner in keys(group)] if group else [name]
    return found


def groups(cls: type[Settings]) -> dict[str, type[Settings]]:
    """Return the class of each shared section, in a dict by the name of the field that holds it."""
    found = {name: _group(field.annotation) for name, field in cls.model_fields.items()}
    return {name: group for name, group in found.items() if group}


def _group(annotation: Any) -> type[Settings] | None:
    is_group = isinstance(annotation, type) and issubclass(annotation, Settings)
    return cast("type[Settings]", annotation) if is_group else None


# --- layers ---------------------------------------------------------------------------------------


def _read(path: Path) -> dict[str, dict[str, Any]]:
    try:
        with path.open("rb") as file:
            tables = tomllib.load(file)
    except OSError as error:
        raise ConfigError(f"configuration file {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"configuration file {path} is not TOML: {error}") from error
    for name, table in tables.items():
        if name not in SECTIONS:
            raise ConfigError(f"{path}: unknown section [{name}]{_nearest(name, SECTIONS)}")
        if not isinstance(table, dict):
            raise ConfigError(f"{path}: key {name!r} is not inside a section such as [agent]")
    return tables


def _file_layers(
    cls: type[Settings], tables: Mapping[str, dict[str, Any]], path: Path | None
) -> Iterator[_Layer]:
    for name, group in groups(cls).items():
        yield _table_layer(group, tables.get(group.section, {}), f"{path} [{group.section}]", name)
    yield _table_layer(cls, tables.get(cls.section, {}), f"{path} [{cls.section}]")


def _table_layer(
    cls: type[Settings], table: Mapping[str, Any], origin: str, field: str = ""
) -> _Layer:
    known, head = keys(cls), f"{field}." if field else ""
    values: _Layer = {}
    for key, value in _flat(table, set(groups(cls))):
        if key not in known:
            raise ConfigError(f"{origin}: unknown key {key!r}{_nearest(key, known)}")
        values[head + key] = (value, origin)
    return values


def _environment_layers(cls: type[Settings], environ: Mapping[str, str]) -> Iterator[_Layer]:
    for name, group in groups(cls).items():
        yield _environment_layer(group, environ, name)
    yield _environment_layer(cls, environ)


def _environment_layer(cls: type[Settings], environ: Mapping[str, str], field: str = "") -> _Layer:
    prefix, head = f"{PREFIX}{cls.section.upper()}__", f"{field}." if field else ""
    known = keys(cls)
    values: _Layer = {}
    for name in sorted(environ):
        if not name.upper().startswith(prefix):
            continue
        key = name.upper().removeprefix(prefix).lower().replace("__", ".")
        if key not in known:
            raise ConfigError(f"environment variable {name}: unknown key{_nearest(key, known)}")
        values[head + key] = (_parsed(cls, key, environ[name], name), f"environment {name}")
    return values


def _parsed(cls: type[Settings], key: str, text: str, variable: str) -> Any:
    """Parse a variable's value as pydantic-settings does: lists and tables are JSON."""
    name, _, inner = key.partition(".")
    field = cls.model_fields[name]
    group = _group(field.annotation)
    if group and inner:
        return _parsed(group, inner, text, variable)
    source = EnvSettingsSource(cls)
    if not source.field_is_complex(field) or text.lower() in ("", "none", "null"):
        return None if text.lower() in ("none", "null") else text
    try:
        return source.prepare_field_value(name, field, text, value_is_complex=False)
    except ValueError as error:
        raise ConfigError(
            f"environment variable {variable}: {logs.scrub(repr(text))} is not JSON"
        ) from error


def _check_environment(environ: Mapping[str, str]) -> None:
    for name in environ:
        section, nested, _ = name.upper().removeprefix(PREFIX).partition("__")
        if name.upper().startswith(PREFIX) and nested and section.lower() not in SECTIONS:
            raise ConfigError(
                f"environment variable {name}: unknown section {section.lower()!r}"
                f"{_nearest(section.lower(), SECTIONS)}"
            )


def _flag_layer(cls: type[Settings], overrides: Mapping[str, Any]) -> _Layer:
    known = keys(cls)
    given = {key: value for key, value in overrides.items() if value is not None}
    for key in given:
        if key not in known:
            raise ConfigError(f"unknown flag {key!r} of [{cls.section}]{_nearest(key, known)}")
        _check_no_secret(cls, key, given[key])
    return {key: (value, f"flag --{key.replace('_', '-')}") for key, value in given.items()}


def _check_no_secret(cls: type[Settings], key: str, value: Any) -> None:
    kind = _type(cls, key)
    if getattr(kind, "holds_secrets", False) and kind.shown(value) != str(value):
        variable = f"{PREFIX}{cls.section.upper()}__{key.upper()}"
        raise ConfigError(f"the flag for {cls.section}.{key} {FLAG_IS_PUBLIC % variable}")


# --- small pieces ---------------------------------------------------------------------------------


def _flat(table: Mapping[str, Any], nested: set[str], head: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in table.items():
        if name in nested and isinstance(value, dict):
            yield from _flat(value, set(), f"{name}.")
        else:
            yield head + name, value


def _nested(cls: type[Settings], values: _Layer) -> dict[str, Any]:
    """Turn a key "security.key" into {"security": {"key": ...}}; absent inner keys get defaults."""
    nested: dict[str, Any] = {
        name: cls.model_fields[name].get_default(call_default_factory=True).model_dump()
        for name in groups(cls)
        if not cls.model_fields[name].is_required()
    }
    for key, (value, _) in values.items():
        name, _, inner = key.partition(".")
        if inner:
            nested.setdefault(name, {})[inner] = value
        else:
            nested[name] = value
    return nested


def _nearest(name: str, known: tuple[str, ...] | list[str]) -> str:
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    if close:
        return f"; did you mean {' or '.join(close)}?"
    return f"; known: {', '.join(known)}"


def _explain(
    cls: type[Settings], error: ValidationError, values: Mapping[str, tuple[Any, str]]
) -> str:
    lines = []
    for problem in error.errors(include_url=False):
        key = ".".join(str(part) for part in problem["loc"])
        if not key:
            lines.append(_explain_together(cls, problem["msg"], values))
            continue
        shown = next((known for known in keys(cls) if key.startswith(known)), key)
        value, origin = values.get(shown, (problem.get("input"), DEFAULT))
        message = problem["msg"].removeprefix("Value error, ")
        text = logs.scrub(_told(cls, shown, value))
        lines.append(f"{cls.section}.{shown} = {text} from {origin}: {message}")
    return "; ".join(lines)


def _told(cls: type[Settings], key: str, value: Any) -> str:
    """Return a setting's value as text for a message, without the secrets that it may hold."""
    kind = _type(cls, key)
    return repr(kind.shown(value) if getattr(kind, "holds_secrets", False) else value)


def _type(cls: type[Settings], key: str) -> Any:
    """Return the declared type of the setting with a dotted key; None for an unknown key."""
    name, _, inner = key.partition(".")
    field = cls.model_fields.get(name)
    group = _group(field.annotation) if field else None
    if group and inner:
        return _type(group, inner)
    return field.annotation if field else None


def _explain_together(
    cls: type[Settings], message: str, values: Mapping[str, tuple[Any, str]]
) -> str:
    """Return ``message``, about contradictory settings, with the origin of each of them."""
    given = [
        f"{cls.section}.{key} from {origin}"
        for key, (_, origin) in values.items()
        if key in message
    ]
    origins = f" ({', '.join(given)})" if given else ""
    return f"[{cls.section}] {message.removeprefix('Value error, ')}{origins}"
