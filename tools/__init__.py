"""Programs for developers: run each as `python -m tools.NAME`; its `--help` explains it."""
