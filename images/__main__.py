"""`make images`: build the images of the fleet, write them as archives, and push them if asked.

python -m images                                build the images if their sources have changed
python -m images --push registry.example/team   build, and push the images to a registry
python -m images --build-base IMAGE --run-base IMAGE   use other base images with Python 3.11
"""

from __future__ import annotations

import argparse
import sys

from images import build_images
from images.parts import Refused


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    shown = argparse.RawDescriptionHelpFormatter
    root = argparse.ArgumentParser("python -m images", None, __doc__, formatter_class=shown)
    root.add_argument(
        "--push", default="", metavar="REGISTRY", help="registry to push to, optionally with a path"
    )
    root.add_argument(
        "--tag",
        default="",
        help="tag of the images; default: the version and a hash of the content",
    )
    root.add_argument(
        "--builder",
        default="",
        help="buildah, podman or docker; default: the first that is installed",
    )
    root.add_argument(
        "--build-base",
        default="",
        metavar="IMAGE",
        help="base to build in, with Python, venv and pip",
    )
    root.add_argument(
        "--run-base", default="", metavar="IMAGE", help="base to run on, with the same Python"
    )
    root.add_argument("--fresh", action="store_true", help="build the base images again")
    return root


def main() -> None:
    """Build the requested images; if that is refused, print a message and exit with 1."""
    given = parser().parse_args()
    try:
        build_images.make(build_images.Asked(**vars(given)))
    except Refused as error:
        sys.exit(f"images: {error}")
    except BrokenPipeError:
        # The program that reads our output, such as `head`, has ended. Without stdout, Python does
        # not try to write the rest of the output when it exits.
        sys.stdout = None
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit("images: interrupted; run `make images` again to continue")


if __name__ == "__main__":
    main()
