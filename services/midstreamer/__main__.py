"""``python -m midstreamer`` is the same as the ``midstreamer`` command."""

from midstreamer.cli.main import main

if __name__ == "__main__":
    main()
