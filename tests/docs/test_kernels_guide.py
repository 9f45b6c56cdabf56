"""The examples of the kernels' guide and README run and give the answers that they show."""

from __future__ import annotations

import doctest
import re
from pathlib import Path

import pytest

import midstreamer_kernels

TOP = Path(__file__).parents[2]
GUIDE = TOP / "docs/how-to/kernels.md"
PAGE = TOP / "kernels/README.md"


def examples(path: Path) -> str:
    """Return the Python blocks of a page, joined in order."""
    text = path.read_text(encoding="utf-8")
    return "\n".join(re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL))


@pytest.mark.slow
@pytest.mark.timeout(600)  # the first run compiles all kernels that the guide calls
@pytest.mark.parametrize("path", [GUIDE, PAGE], ids=lambda path: path.stem)
def test_the_examples_run_and_answer_as_written(path: Path) -> None:
    test = doctest.DocTestParser().get_doctest(examples(path), {}, path.name, str(path), 0)
    assert test.examples
    report: list[str] = []
    failed, _ = doctest.DocTestRunner(verbose=False).run(test, out=report.append)
    assert not failed, "".join(report)


def test_the_guide_uses_every_public_function() -> None:
    used = set(re.findall(r"\w+", examples(GUIDE)))
    public = {name for name in midstreamer_kernels.__all__ if not name.endswith("Error")}
    elsewhere = {"Detection", "Engine", "KernelModule", "Matches", "Run", "__version__", "engines",
                 "nearest"}  # fmt: skip
    assert public - elsewhere <= used


def test_every_picture_of_the_guide_exists_and_is_described() -> None:
    pictures = re.findall(r"^```\{image\} (\S+)\n:alt: (.+)$", GUIDE.read_text(), re.MULTILINE)
    assert {Path(name).stem for name, _ in pictures} == {
        "kernels-path", "kernels-matches", "kernels-exclusion", "kernels-monitor"
    }  # fmt: skip
    assert all((GUIDE.parent / name).is_file() and description for name, description in pictures)
