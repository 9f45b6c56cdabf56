"""`dsn.checked`: a connection over a network needs TLS with a verified certificate."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from midstreamer.domain.errors import ConfigError
from midstreamer.store import dsn


@pytest.mark.parametrize(
    "local",
    [
        "postgresql:///midstreamer",
        "postgresql://me@localhost/db?sslmode=disable",
        "postgresql://me@127.0.0.1:5433/db",
        "postgresql://me@[::1]:5433/db?sslmode=prefer",
        "postgresql://me@/db?host=/var/run/postgresql",
        "postgresql://me@%2Fvar%2Frun/db",
    ],
)
def test_a_socket_or_loopback_needs_no_tls(local: str) -> None:
    assert dsn.checked(local, {}) == local


@pytest.mark.parametrize("mode", ["disable", "allow", "prefer", "require"])
def test_a_network_without_verification_is_refused(mode: str) -> None:
    with pytest.raises(ConfigError, match=r"does not verify db\.example") as caught:
        dsn.checked(f"postgresql://me:secret@db.example/db?sslmode={mode}", {})
    assert "secret" not in str(caught.value)


def test_a_network_dsn_without_sslmode_is_verified() -> None:
    checked = dsn.checked("postgresql://me@db.example/db?sslrootcert=/etc/ca.pem", {})
    assert checked == "postgresql://me@db.example/db?sslrootcert=/etc/ca.pem&sslmode=verify-full"


@pytest.mark.parametrize("mode", ["verify-ca", "verify-full"])
def test_verification_is_kept_as_it_was_asked(mode: str) -> None:
    checked = dsn.checked(f"postgresql://db.example/db?sslmode={mode}", {})
    assert checked.endswith(f"sslmode={mode}")


@pytest.mark.parametrize(
    "hidden",
    [
        "postgresql://me@localhost,db.example/db?sslmode=disable",
        "postgresql://me@/db?host=10.0.0.7&sslmode=disable",
        "postgresql://me@127.0.0.1:5432,192.0.2.1:5432/db?sslmode=disable",
    ],
)
def test_one_remote_host_among_local_ones_counts(hidden: str) -> None:
    with pytest.raises(ConfigError, match="verify-full"):
        dsn.checked(hidden, {})


def test_the_environment_can_make_it_remote() -> None:
    environment = {"PGHOST": "db.example", "PGSSLMODE": "prefer"}
    with pytest.raises(ConfigError, match=r"db\.example"):
        dsn.checked("postgresql:///db", environment)


def test_what_is_no_dsn_is_named_without_its_password() -> None:
    with pytest.raises(ConfigError, match="mysql://me:") as caught:
        dsn.checked("mysql://me:secret@localhost/db?password=secret", {})
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("name", ["service", "servicefile"])
@pytest.mark.parametrize("base", ["postgresql:///db", "postgresql://me@localhost/db"])
def test_a_service_file_is_not_read_behind_the_rule(base: str, name: str) -> None:
    with pytest.raises(ConfigError, match=rf"\?{name}=x': {name} names a"):
        dsn.checked(f"{base}?{name}=x", {})
    with pytest.raises(ConfigError, match=f"variable PG{name.upper()} names a"):
        dsn.checked(base, {f"PG{name.upper()}": "x"})
    assert dsn.checked(base, {f"PG{name.upper()}": ""}) == base


PIECES = (
    "postgresql:// postgres:// me : @ / ? # % %40 %2F %00 [ ] ::1 localhost db.example , 5432 = &"
    " password sslmode verify-full disable host port user service options ; + dbname \\ '"
)


def used(text: str) -> str:
    """Return the DSN as sync would use it; empty when the DSN is refused with a ConfigError."""
    try:
        return dsn.checked(text, {})
    except ConfigError:
        return ""


@given(st.lists(st.sampled_from(PIECES.split()), max_size=14).map("".join))
def test_any_text_is_a_dsn_or_refused_by_name(text: str) -> None:
    shown, found = dsn.shown(text), used(text)
    if found:
        remote = [host for host in dsn.hosts(found, {}) if not dsn.is_local(host)]
        assert not remote or "sslmode=verify-" in found
        assert dsn.shown(found).startswith(shown.partition("?")[0])


@pytest.mark.parametrize(
    "named",
    [
        "postgresql://me@db.example/db",
        "postgresql://me@db.example/db?sslmode=verify-full",
        "postgresql://me@localhost:5433/db",
    ],
)
def test_the_fleets_authorities_can_judge_any_host_that_is_named(named: str) -> None:
    assert dsn.checked(named, {}, by_fleet=True) == named


@pytest.mark.parametrize(
    ("named", "environment", "message"),
    [
        ("postgresql://me@db.example/db?sslmode=disable", {}, "sslmode must be verify-full"),
        ("postgresql://me@localhost/db?sslmode=prefer", {}, "sslmode must be verify-full"),
        ("postgresql://me@db.example/db?sslmode=verify-ca", {}, "sslmode must be verify-full"),
        (
            "postgresql://me@db.example/db?sslrootcert=ca.pem",
            {},
            "sslrootcert would have no effect",
        ),
        ("postgresql:///db", {}, "must name the host"),
        ("postgresql:///db", {"PGHOST": "/run"}, "must name the host"),
        ("postgresql://me@/db?host=/run/postgresql", {}, "must name the host"),
        ("postgresql://me@db.example,%2Frun/db", {}, "must name the host"),
        ("postgresql://me@db.example/db?service=x", {}, "service file"),
    ],
)
def test_what_the_fleets_authorities_cannot_judge_is_refused(
    named: str, environment: dict[str, str], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        dsn.checked(named, environment, by_fleet=True)


@pytest.mark.parametrize(
    ("text", "has"),
    [
        ("postgresql://me@db.example/db", False),
        ("postgresql://me:word@db.example/db", True),
        ("postgresql://me@db.example/db?password=word", True),
        ("", False),
    ],
)
def test_a_dsn_knows_whether_it_holds_a_password(text: str, has: bool) -> None:
    assert dsn.Dsn(text).has_password is has
