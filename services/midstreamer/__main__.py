"""Run the ``midstreamer`` command when Python is started as ``python -m midstreamer``."""

from midstreamer.cli.main import main

if __name__ == "__main__":
    main()
