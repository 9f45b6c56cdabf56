"""No output, error, log or argument shows the password in a DSN, in any form of DSN."""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import hypothesis
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from midstreamer.cli import error_lines, main
from midstreamer.domain.errors import ConfigError
from midstreamer.runtime import config
from midstreamer.store import dsn
from midstreamer.store.dsn import Dsn
from midstreamer.sync.config import SyncSettings
from midstreamer.telemetry import logs

VARIABLE = "MIDSTREAMER_SYNC__DSN"
BEGINNING, END = "hEaDhEaD", "tAiLtAiL"
INNER = st.text(st.sampled_from("/?#@:%&=,;'\"\\ [](){}ab1é"), max_size=6)
SECRETS = INNER.map(lambda inner: f"{BEGINNING}{inner}{END}")


def keyword_quoted(secret: str) -> str:
    return "'" + secret.replace("\\", "\\\\").replace("'", "\\'") + "'"


FORMS: dict[str, Callable[[str], str]] = {
    "escaped": lambda s: f"postgresql://me:{quote(s, safe='')}@db.example/x?sslmode=verify-full",
    "no user": lambda s: f"postgres://:{quote(s, safe='')}@localhost",
    "several hosts": lambda s: f"postgresql://me:{quote(s, safe='')}@h1:1,[::1]:2,h3/x",
    "option": lambda s: f"postgresql://localhost/x?password={quote(s, safe='')}",
    "option of the key": lambda s: f"postgresql://localhost/x?sslpassword={quote(s, safe='')}",
    "option, raw": lambda s: f"postgresql://me@localhost/x?sslmode=disable&password={s}",
    "option, escaped name": lambda s: f"postgresql://localhost/x?pass%77ord={quote(s, safe='')}",
    "misspelt option": lambda s: f"postgresql://localhost/x?passwort={quote(s, safe='')}",
    "service": lambda s: f"postgresql://me:{quote(s, safe='')}@/x?service=live",
    "raw": lambda s: f"postgresql://me:{s}@localhost/x",
    "raw, remote, weak": lambda s: f"postgresql://me:{s}@db.example/x?sslmode=require",
    "wrong port": lambda s: f"postgresql://me:{s}@localhost:port/x",
    "open bracket": lambda s: f"postgresql://me:{s}@[::1/x",
    "other scheme": lambda s: f"mysql://me:{s}@localhost/x",
    "keywords": lambda s: f"host=localhost password={keyword_quoted(s)} user=me",
    "keywords of the key": lambda s: f"host=localhost sslpassword = {keyword_quoted(s)}",
}
NOT_FOUND_IN_TEXT = {"option, raw", "option, escaped name", "misspelt option", "other scheme"}
"""Forms of DSN in which no rule can find the secret when the DSN is part of a free text.

When such a DSN is the value of a setting, its secret is hidden as in any other DSN.
"""
PLACES = ("file", "environment", "flag")


def settings(text: str, place: str) -> SyncSettings:
    """Return the settings of sync with this DSN, given in `place`: file, environment or flag."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "config.toml"
        path.write_text(f"[sync]\ndsn = {json.dumps(text)}\n" if place == "file" else "")
        environment = {VARIABLE: text} if place == "environment" else {}
        flags = {"dsn": text} if place == "flag" else {}
        return config.load(SyncSettings, config_file=path, overrides=flags, environ=environment)


def leaks(shown: str) -> bool:
    return BEGINNING in shown or END in shown


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("form", FORMS)
@given(secret=SECRETS)
@hypothesis.settings(max_examples=50)
@example(secret=f"{BEGINNING}/{END}")
@example(secret=f"{BEGINNING}@{END}")
@example(secret=f"{BEGINNING}' \\{END}")
def test_no_form_of_a_dsn_shows_its_password(form: str, place: str, secret: str) -> None:
    text = FORMS[form](secret)
    loaded: SyncSettings | None = None
    shown = ""
    try:
        loaded = settings(text, place)
        dsn.checked(loaded.dsn, {})
    except ConfigError as error:
        shown = "".join(traceback.format_exception(error))
    if loaded is not None:
        assert (place != "flag", loaded.dsn.reveal()) == (True, text)
        shown += f"{config.show(loaded)} {loaded!r} {loaded} {loaded.model_dump_json()}"
    assert not leaks(shown), shown


@pytest.mark.parametrize("form", FORMS)
@given(secret=SECRETS)
def test_a_line_of_log_that_repeats_a_dsn_hides_its_password(form: str, secret: str) -> None:
    output = logs.scrub(f"cannot reach {FORMS[form](secret)}")
    assert not leaks(output) or form in NOT_FOUND_IN_TEXT


def ran(words: list[str]) -> tuple[int, str]:
    out = io.StringIO()
    with contextlib.redirect_stderr(out), contextlib.redirect_stdout(out):
        code = main.execute(words)
    return code, out.getvalue()


@pytest.mark.parametrize("debug", [[], ["--debug"]])
@pytest.mark.parametrize("form", FORMS)
@given(secret=SECRETS)
@hypothesis.settings(max_examples=10)
def test_a_dsn_with_a_password_is_refused_as_an_argument_and_not_repeated(
    form: str, debug: list[str], secret: str
) -> None:
    text = FORMS[form](secret)
    for words in (
        ["db", "status", "--dsn", text],
        ["sync", "--set", f"dsn={text}", "--print-config"],
        ["sync", "--set", text],
    ):
        code, output = ran([*debug, *words])
        assert code == error_lines.WRONG
        assert not leaks(output), output
        assert "unexpected" not in output


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("host=localhost password=x", "it has the form `host=… password=…`; write it as a URL"),
        (
            "postgresql://me:a/b@localhost/x",
            "an @ stands after its first / ? or #: in a user or password write / ?",
        ),
        ("postgresql://me:a@b@localhost/x", "more than one @ stands before its database"),
        ("postgresql://me:a%b@localhost/x", "a % in it is not followed by two hexadecimal"),
        ("postgresql://me:a b@localhost/x", "it holds a space or a control character"),
        ("postgresql://me:a%00@localhost/x", "it holds %00"),
        ("postgresql://localhost:pgport/x", "host 1 of 1 is not host, host:port or [IPv6]:port"),
        ("postgresql://localhost:65536/x", "the port of host 1 of 1 is not 1 to 65535"),
        ("postgresql://h1,,h3/x", "host 2 of 3 is not host"),
        ("postgresql://[::1/x", "host 1 of 1 is not host"),
        ("postgresql://localhost/x?verify-full", "what follows its ? is not option=value"),
        ("postgresql://localhost/x?sslmode=full", "its sslmode is none of disable, allow"),
        ("postgresql://localhost/x?host=/tmp&port=a", "its option port is not a number"),
        ("postgresql://localhost/x#y", "it holds a #"),
        ("localhost", "it does not begin with postgresql://"),
    ],
)
def test_a_malformed_dsn_is_reported_in_a_sentence_with_its_source(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        settings(text, "environment")
    assert f"from environment {VARIABLE}: {message}" in caught.value.message


def test_a_second_at_sign_cannot_hide_a_remote_host() -> None:
    """The driver connects to the host after the first @, whatever host follows a second @."""
    with pytest.raises(ConfigError, match="more than one @"):
        dsn.checked("postgresql://me:x@db.example,y@localhost/x?sslmode=disable", {})


def test_a_dsn_is_equal_to_itself_and_shown_without_its_password() -> None:
    address = Dsn("postgresql://me:secret@db.example:5432/x?sslmode=verify-full&options=secret")
    assert str(address) == "postgresql://me:***@db.example:5432/x?sslmode=verify-full&options=***"
    assert repr(address) == f"Dsn({str(address)!r})"
    assert (address == Dsn(address.reveal()), bool(address), bool(Dsn())) == (True, True, False)


@pytest.mark.integration
def test_a_password_from_the_environment_is_in_no_process_list_and_no_log(tmp_path: Path) -> None:
    text = FORMS["escaped"](f"{BEGINNING}/{END}").replace("db.example", "127.0.0.1:1")
    environment = {**os.environ, VARIABLE: text, "MIDSTREAMER_SYNC__LISTEN": "127.0.0.1:0"}
    for words in (["certs", "init"], ["certs", "issue", "sync/sync-1"]):
        subprocess.run(
            [sys.executable, "-m", "midstreamer", *words],
            cwd=tmp_path, check=True, capture_output=True, timeout=60,
        )  # fmt: skip
    with subprocess.Popen(
        [sys.executable, "-m", "midstreamer", "sync"], cwd=tmp_path, env=environment,
        stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stderr is not None
        output = ""
        while "store.away" not in output:
            line = process.stderr.readline()
            assert line, output
            output += line
        listed = Path(f"/proc/{process.pid}/cmdline").read_text()
        process.terminate()
        output += process.stderr.read()
    assert not leaks(output + listed)
