"""Which files of packages are dropped from images, and how the rest is compiled."""

import py_compile
import sys
from pathlib import Path

import pytest

from images import install


def test_tests_headers_and_stubs_go_and_the_rest_stays(tmp_path: Path) -> None:
    kept = ["a/x.py", "a/x.so", "a/data.json", "a/testing/y.py", "a-1.dist-info/METADATA"]
    gone = [
        "bin/tool", "a/tests/t.py", "a/b/tests/deep/t.py", "a/include/x.h", "a/x.pyi", "a/x.c",
        "a/x.a", "a/lib/pkgconfig/x.pc", "a-1.dist-info/RECORD", "a-1.dist-info/direct_url.json",
    ]  # fmt: skip
    for name in kept + gone:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")

    install.shrink(tmp_path)

    left = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    assert left == {*kept}


def test_bytecode_is_of_the_place_where_it_will_be_and_is_never_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    top, folder = tmp_path / "top", tmp_path / "made"
    site = top / "lib/python3.11/site-packages"
    site.mkdir(parents=True)
    (folder / "a").mkdir(parents=True)
    (folder / "a/x.py").write_text("def f():\n    pass\n")
    monkeypatch.setattr(install, "TOP", top)

    install.make_bytecode(folder)

    bytecode = next((folder / "a/__pycache__").iterdir()).read_bytes()
    # The flags of a .pyc file whose source hash Python never checks.
    assert int.from_bytes(bytecode[4:8], "little") == 0b01
    assert str(site / "a/x.py").encode() in bytecode
    assert py_compile.PycInvalidationMode.UNCHECKED_HASH is install.UNCHECKED


def test_a_file_that_cannot_be_compiled_ends_the_build(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "x.py").write_text("def\n")
    monkeypatch.setattr(install, "TOP", tmp_path)

    with pytest.raises(SystemExit, match="do not compile"):
        install.make_bytecode(tmp_path)


def test_the_environment_has_python_and_no_pip(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(install, "TOP", tmp_path / "top")
    monkeypatch.setattr("compileall.compile_dir", lambda *_, **__: True)

    install.main(["base"])

    names = {path.name for path in (tmp_path / "top/bin").iterdir()}
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    assert {"python", "python3", version} >= names >= {"python", "python3"}
    assert list(install.site().iterdir()) == []
