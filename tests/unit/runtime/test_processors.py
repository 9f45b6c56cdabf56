"""A process counts only processors that it may use: fewer with a CPU quota or an affinity mask."""

import os
from pathlib import Path

import pytest

from midstreamer.agent.config import AgentSettings
from midstreamer.runtime import processors
from midstreamer.runtime.processors import allowed, available, places, quota


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["150000 100000\n"], 1.5),
        (["max 100000\n"], None),
        (["200000", "100000"], 2.0),
        (["-1\n", "100000\n"], None),
        (["50000\n", "100000\n"], 0.5),
        (["0 100000"], None),
        (["100000 0"], None),
        (["100000"], None),
        (["", ""], None),
        (["1e5 1e5"], None),
        (["1 2 3"], None),
    ],
)
def test_a_quota_is_read_in_both_versions(texts: list[str], expected: float | None) -> None:
    assert quota(texts) == expected


@pytest.mark.parametrize(
    ("cgroup", "folders"),
    [
        ("0::/\n", ["", "unified"]),
        ("0::/a/b\n", ["", "a", "a/b", "unified", "unified/a", "unified/a/b"]),
        (
            "4:cpu,cpuacct:/kubepods/pod1\n3:cpuset:/x\n2:cpuacct:/y\n",
            [
                "cpu,cpuacct", "cpu,cpuacct/kubepods", "cpu,cpuacct/kubepods/pod1",
                "cpu", "cpu/kubepods", "cpu/kubepods/pod1",
            ],
        ),
        ("1:cpu:/\n", ["cpu"]),
        ("0::/../../elsewhere\n", ["", "elsewhere", "unified", "unified/elsewhere"]),
        ("1:name=systemd:/\n", []),
        ("", []),
        ("nonsense\n\n::\n", []),
    ],
)  # fmt: skip
def test_quotas_are_looked_for_at_every_level(cgroup: str, folders: list[str]) -> None:
    assert [folder for folder, _ in places(cgroup)] == folders


@pytest.mark.parametrize(
    ("usable", "quotas", "expected"),
    [
        (8, [], 8),
        (8, [None, None], 8),
        (8, [2.0], 2),
        (8, [1.9], 1),
        (8, [0.5], 1),
        (8, [None, 4.0, 3.5], 3),
        (2, [16.0], 2),
        (0, [], 1),
    ],
)
def test_whole_processors_count_and_there_is_always_one(
    usable: int, quotas: list[float | None], expected: int
) -> None:
    assert allowed(usable, quotas) == expected


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, 64),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "300000 100000\n"}, 3),
        (
            {
                "proc/self/cgroup": "0::/pods/one\n",
                "sys/fs/cgroup/pods/cpu.max": "200000 100000\n",
                "sys/fs/cgroup/pods/one/cpu.max": "max 100000\n",
            },
            2,
        ),
        (
            {
                "proc/self/cgroup": "4:cpu,cpuacct:/not/seen/here\n0::/\n",
                "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "500000\n",
                "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000\n",
            },
            5,
        ),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "\N{EURO SIGN}"}, 64),
    ],
)
def test_the_files_of_a_container_decide(
    files: dict[str, str], expected: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(64)), raising=False)
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")

    assert available(tmp_path) == expected


def test_affinity_counts_and_where_there_is_none_the_processors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {3, 5}, raising=False)
    assert available(tmp_path / "one") == 2

    monkeypatch.delattr("os.sched_getaffinity")
    monkeypatch.setattr("os.cpu_count", lambda: 7)
    assert available(tmp_path / "two") == 7


def test_an_agent_takes_as_many_threads_unless_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processors, "available", lambda: 3)

    assert AgentSettings(threads=0).threads_used == 3
    assert AgentSettings(threads=5).threads_used == 5


def test_this_process_may_use_at_least_one() -> None:
    assert 1 <= available() <= (os.cpu_count() or 1)
