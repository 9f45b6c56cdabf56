"""`make images`: builds the images of the fleet, keeps them as archives, and may push them.

python -m images                                build what has changed
python -m images --push registry.example/team   and push it there
python -m images --build-base IMAGE --run-base IMAGE   on another base with Python 3.11
"""

from __future__ import annotations

import argparse
import sys

from images import make
from images.parts import Refused


def parser() -> argparse.ArgumentParser:
    """The command line."""
    shown = argparse.RawDescriptionHelpFormatter
    root = argparse.ArgumentParser("python -m images", None, __doc__, formatter_class=shown)
    root.add_argument("--push", default="", metavar="REGISTRY", help="where to; a path may follow")
    root.add_argument("--tag", default="", help="default: the version and a hash of the content")
    root.add_argument("--builder", default="", help="buildah, podman or docker; default: the first")
    root.add_argument("--build-base", default="", metavar="IMAGE", help="with Python, venv and pip")
    root.add_argument("--run-base", default="", metavar="IMAGE", help="with the same Python")
    root.add_argument("--fresh", action="store_true", help="make the bases again")
    return root


def main() -> None:
    """Do what the command line says; a refusal is one message and exit code 1."""
    given = parser().parse_args()
    try:
        make.make(make.Asked(**vars(given)))
    except Refused as error:
        sys.exit(f"images: {error}")
    except BrokenPipeError:
        sys.stdout = None  # whoever read has gone, as `| head` does; nothing is left to say
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit("images: interrupted; the next `make images` goes on")


if __name__ == "__main__":
    main()
