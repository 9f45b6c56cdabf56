"""The commands of the image builders, and the message when a program is missing."""

import pytest

from images import container_commands
from images.parts import Refused


@pytest.mark.parametrize(
    ("asked", "installed", "taken"),
    [
        ("", {"docker", "buildah", "podman"}, "buildah"),
        ("", {"docker", "podman"}, "podman"),
        ("docker", {"docker", "buildah"}, "docker"),
        ("podman", {"docker", "buildah"}, ""),
        ("", {"mmdebstrap"}, ""),
    ],
)
def test_the_builder_is_the_one_asked_for_or_the_first_there(
    asked: str, installed: set[str], taken: str
) -> None:
    assert container_commands.chosen(asked, installed) == taken


def test_an_unknown_builder_is_refused_by_name() -> None:
    with pytest.raises(Refused, match="BUILDER=kaniko: give one of buildah, podman, docker"):
        container_commands.chosen("kaniko", {"buildah"})


def test_all_missing_programs_are_named_at_once_with_one_line_that_installs_them() -> None:
    message = container_commands.missing("", "", set(), own_bases=True, root=False)

    assert len(message) == 3
    assert "buildah, or podman or docker" in message[0]
    assert "BUILD_BASE and RUN_BASE" in message[1]
    assert message[2].endswith("sudo apt-get install --no-install-recommends buildah mmdebstrap")


def test_only_what_is_used_can_be_missing() -> None:
    assert container_commands.missing("podman", "", {"podman"}, own_bases=False, root=True) == []
    assert len(container_commands.missing("podman", "", {"podman"}, own_bases=True, root=True)) == 2


@pytest.mark.parametrize("builder", container_commands.BUILDERS)
def test_a_build_names_target_base_and_tag_and_fetches_no_base(builder: str) -> None:
    command = container_commands.build(
        builder, "folder", "folder/Containerfile", "localhost/x:1", target="agent",
        arguments={"RUN_BASE": "localhost/y:2"},
    )  # fmt: skip

    assert command[:2] == [builder, "build"]
    assert command[-1] == "folder"
    assert {"--target=agent", "--build-arg=RUN_BASE=localhost/y:2", "localhost/x:1"} <= {*command}
    assert not {"--pull", "--pull=always", "--network=host"} & {*command}


@pytest.mark.parametrize("builder", container_commands.BUILDERS)
def test_the_id_of_an_image_is_asked_for_by_its_name(builder: str) -> None:
    command = container_commands.identify(builder, "localhost/y:2")

    assert command[0] == builder
    assert "inspect" in command
    assert command[-1] == "localhost/y:2"


def test_archives_and_pushes_are_in_each_builders_words() -> None:
    assert container_commands.save("buildah", "x:1", "/f.tar")[-1] == "docker-archive:/f.tar:x:1"
    assert "--format=docker-archive" in container_commands.save("podman", "x:1", "/f.tar")
    assert container_commands.save("docker", "x:1", "/f.tar") == [
        "docker",
        "save",
        "--output",
        "/f.tar",
        "x:1",
    ]
    assert container_commands.push("buildah", "x:1", "r/x:1")[-1][-1] == "docker://r/x:1"
    assert container_commands.push("podman", "x:1", "r/x:1") == [
        ["podman", "push", "--quiet", "x:1", "r/x:1"]
    ]
    assert container_commands.push("docker", "x:1", "r/x:1")[0] == ["docker", "tag", "x:1", "r/x:1"]


def test_root_builds_without_namespaces_unless_told_otherwise() -> None:
    assert container_commands.environment("buildah", {}, root=True) == {
        "BUILDAH_ISOLATION": "chroot"
    }
    assert container_commands.environment("buildah", {"BUILDAH_ISOLATION": "oci"}, root=True) == {}
    assert container_commands.environment("buildah", {}, root=False) == {}
    assert container_commands.environment("docker", {}, root=True) == {"DOCKER_BUILDKIT": "1"}
