"""The version is written in one place, and all other places repeat it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tools import version


def a_copy(folder: Path) -> Path:
    for path in (version.SOURCE, *(place.path for place in version.PLACES)):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(version.TOP / path, folder / path)
    return folder


def test_every_place_repeats_the_version() -> None:
    assert version.differences() == []


def test_a_new_version_is_written_to_every_place(tmp_path: Path) -> None:
    top = a_copy(tmp_path)

    version.write("7.8.9rc1", top)

    assert version.stated(top) == "7.8.9rc1"
    assert version.differences(top) == []
    for place in version.PLACES:
        before = (version.TOP / place.path).read_text().splitlines()
        after = (top / place.path).read_text().splitlines()
        changed = [line for old, line in zip(before, after, strict=True) if old != line]
        assert changed
        assert all("7.8.9rc1" in line for line in changed)


@pytest.mark.parametrize("place", version.PLACES, ids=lambda place: place.path)
def test_a_place_that_differs_or_has_no_version_is_reported(
    place: version.Place, tmp_path: Path
) -> None:
    top = a_copy(tmp_path)
    text = (top / place.path).read_text()
    (top / place.path).write_text(text.replace(version.stated(), "0.0.7"))
    assert place.path in version.differences(top)[0]

    (top / place.path).write_text("")
    assert place.path in version.differences(top)[0]


@pytest.mark.parametrize("wrong", ["", "1", "1.2", "v1.2.3", "1.2.3-4", "1.2.3 ", "one"])
def test_what_is_no_version_is_not_written(wrong: str, tmp_path: Path) -> None:
    top = a_copy(tmp_path)
    with pytest.raises(ValueError, match="three numbers"):
        version.write(wrong, top)
    assert version.differences(top) == []


def test_the_command_prints_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert version.main([]) == 0
    assert capsys.readouterr().out.strip() == version.stated()


def test_the_command_refuses_what_is_no_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert version.main(["--set", "new"]) == 2
    assert "three numbers" in capsys.readouterr().err
