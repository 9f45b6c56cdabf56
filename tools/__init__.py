"""Programs for developers: run each as `python -m tools.NAME`; `--help` says what it does."""
