"""Run the ``midstreamer`` command: ``python -m midstreamer`` does the same."""

from midstreamer.cli.main import main

if __name__ == "__main__":
    main()
