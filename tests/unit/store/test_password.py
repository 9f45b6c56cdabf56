"""A password is read from a file without its newline; errors never quote it."""

from __future__ import annotations

from pathlib import Path

import pytest

from midstreamer.domain.errors import ConfigError
from midstreamer.store import password

WORD = "hushhush-hushhush-hushhush"


@pytest.mark.parametrize("ending", ["", "\n", "\r\n"])
def test_the_end_of_its_line_is_no_part_of_it(tmp_path: Path, ending: str) -> None:
    path = tmp_path / "password"
    path.write_bytes(f"{WORD} ".encode() + ending.encode())
    assert password.read(path, "sync.password_file") == f"{WORD} "


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "its password has 0 characters; at least 16 are needed"),
        (b"\n", "its password has 0 characters"),
        (b"hushhush", "its password has 8 characters; at least 16"),
        (f"{WORD}\n{WORD}\n".encode(), "one line without control characters"),
        (f"{WORD}\0".encode(), "one line without control characters"),
        (WORD.encode() + b"\xff", "not UTF-8"),
        (WORD.encode() * 50, "longer than 1024 bytes"),
    ],
)
def test_what_is_no_password_is_named_and_not_quoted(
    tmp_path: Path, data: bytes, message: str
) -> None:
    path = tmp_path / "word"
    path.write_bytes(data)
    with pytest.raises(ConfigError, match=message) as raised:
        password.read(path, "postgres.password_file", characters_min=16)
    assert f"postgres.password_file = {path}" in raised.value.message
    assert "hush" not in raised.value.message


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"sync\.password_file = .*No such file"):
        password.read(tmp_path / "none", "sync.password_file")
