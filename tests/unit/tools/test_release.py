"""The steps of a release: if something cannot be released, no file is written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cluster import cluster_guard
from tools import release, version

Commands = list[tuple[str, ...]]


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> Commands:
    """Record the commands that a release runs, in order; none of them is executed."""
    ran: Commands = []

    def run(*command: object) -> str:
        ran.append(tuple(map(str, command)))
        return ""

    monkeypatch.setattr(release, "run", run)
    monkeypatch.setattr(version, "write", lambda wanted: ran.append(("write", wanted)))
    monkeypatch.setattr(cluster_guard, "helm", lambda: "helm")
    return ran


def answering(
    monkeypatch: pytest.MonkeyPatch, commands: Commands, answer: Callable[[tuple[str, ...]], str]
) -> None:
    def run(*command: object) -> str:
        words = tuple(map(str, command))
        commands.append(words)
        return answer(words)

    monkeypatch.setattr(release, "run", run)


def test_all_is_built_before_the_commit_and_the_tag(commands: Commands) -> None:
    assert release.main(["9.9.0"]) == 0

    done = [" ".join(each) for each in commands]
    assert done[-2:] == [
        "git commit --all --message release: 9.9.0",
        "git tag --annotate v9.9.0 --message 9.9.0",
    ]
    assert ("write", "9.9.0") in commands
    assert sum("uv build" in each for each in done) == 3
    assert sum("package" in each for each in done) == 3
    assert any("-m images" in each for each in done)
    assert not any("push" in each for each in done)


def test_a_dry_run_only_looks(commands: Commands, capsys: pytest.CaptureFixture[str]) -> None:
    assert release.main(["9.9.0", "--dry-run"]) == 0
    looks = {("git", "status"), ("git", "tag"), ("git", "rev-parse"), ("git", "symbolic-ref")}
    assert {each[:2] for each in commands} <= looks
    assert "8/8 tag" in capsys.readouterr().out


@pytest.mark.parametrize("wrong", ["new", "1.2", "v1.2.3"])
def test_what_is_no_version_is_refused(
    wrong: str, commands: Commands, capsys: pytest.CaptureFixture[str]
) -> None:
    assert release.main([wrong]) == 2
    assert "three numbers" in capsys.readouterr().err
    assert commands == []


@pytest.mark.parametrize(
    ("asked", "says"), [("status", "has changes"), ("tag", "the tag v9.9.0 exists")]
)
def test_a_changed_checkout_and_a_tag_that_exists_are_refused(
    asked: str,
    says: str,
    commands: Commands,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    answering(monkeypatch, commands, lambda words: "something" if words[1] == asked else "")
    assert release.main(["9.9.0"]) == 2
    assert says in capsys.readouterr().err
    assert ("write", "9.9.0") not in commands


@pytest.mark.parametrize("failing", ["images", "--annotate"])
def test_a_step_that_fails_leaves_files_and_branch_as_they_were(
    failing: str,
    commands: Commands,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def answer(words: tuple[str, ...]) -> str:
        if failing in words:
            raise release.Refused("no disk")
        return {"rev-parse": "a-commit", "symbolic-ref": "main"}.get(words[1], "")

    answering(monkeypatch, commands, answer)
    assert release.main(["9.9.0"]) == 1
    assert commands[-1] == ("git", "reset", "--quiet", "--hard", "a-commit")
    assert "no disk" in capsys.readouterr().err


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> release.Checkout:
    """Make a repository with one commit; a release runs in it."""
    monkeypatch.setattr(release, "TOP", tmp_path)
    for name in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{name}_NAME", "somebody")
        monkeypatch.setenv(f"GIT_{name}_EMAIL", "somebody@fleet.example")
    release.run("git", "init", "--quiet", "--initial-branch", "main")
    release.run("git", "commit", "--quiet", "--allow-empty", "--message", "first")
    return release.Checkout.now()


def test_the_commit_of_a_failed_release_is_undone(checkout: release.Checkout) -> None:
    release.run("git", "commit", "--quiet", "--allow-empty", "-m", release.commit_of("9.9.0"))

    assert "as before" in checkout.restore("9.9.0")
    assert release.Checkout.now() == checkout


def test_a_commit_that_somebody_else_made_meanwhile_is_kept(checkout: release.Checkout) -> None:
    release.run("git", "commit", "--quiet", "--allow-empty", "--message", "another")
    after = release.Checkout.now()

    assert f"git reset --hard {checkout.commit}" in checkout.restore("9.9.0")
    assert release.Checkout.now() == after


def test_a_branch_that_somebody_else_chose_meanwhile_is_kept(checkout: release.Checkout) -> None:
    release.run("git", "switch", "--quiet", "--create", "other")

    assert "on the branch main" in checkout.restore("9.9.0")
    assert release.Checkout.now().branch == "other"


def test_a_command_that_fails_is_reported_with_its_output() -> None:
    with pytest.raises(release.Refused, match=r"git no-such-verb.*failed: .*no-such-verb"):
        release.run("git", "no-such-verb")
