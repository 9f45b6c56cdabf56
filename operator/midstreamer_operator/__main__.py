"""Run the command `midstreamer-operator` as ``python -m midstreamer_operator``."""

from midstreamer_operator.cli import main

if __name__ == "__main__":
    main()
