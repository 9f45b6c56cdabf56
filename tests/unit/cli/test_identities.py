"""The allowlist as commands write it."""

from pathlib import Path

from midstreamer.cli import identities
from midstreamer.domain.identity import Kind
from tests.support.security import who


def test_adding_an_entry_keeps_grants_and_comments(tmp_path: Path) -> None:
    path = tmp_path / "allowlist"
    before = "# our desks\nclient/quant-* universes=stocks,fx\nagent/a1\n"
    path.write_text(before)
    identities.allow(path, [who(Kind.CLIENT, "quant-1"), who(Kind.AGENT, "a2")])
    assert path.read_text() == f"{before}agent/a2\n"
