"""How a command ends: an error is printed as one line, with ``--debug`` also its traceback.

Exit codes: 0 success; 1 failure; 2 wrong input or settings; 130 stopped by Ctrl-C; 143 stopped by
SIGTERM.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable

from midstreamer.domain.errors import BadInput, ConfigError, MidstreamerError
from midstreamer.telemetry import logs

FAILED, WRONG, INTERRUPTED = 1, 2, 130
"""Exit codes."""


def outcome(work: Callable[[], None], *, debug: Callable[[], bool]) -> int:
    """Run a command and return its exit code; an error is printed on standard error."""
    try:
        work()
    except KeyboardInterrupt:
        return INTERRUPTED
    except SystemExit as end:
        return _code_of(end)
    except BrokenPipeError:
        return _pipe_closed()
    except Exception as error:
        return told(error, debug=debug())
    return 0


def told(error: BaseException, *, debug: bool) -> int:
    """Print an error and return the exit code."""
    found = foreseen(error)
    if debug:
        sys.stderr.write(logs.scrub("".join(traceback.format_exception(error))))
    if isinstance(found, MidstreamerError):
        sys.stderr.write(f"error[{found.code}]: {logs.scrub(found.message)}\n")
        return WRONG if isinstance(found, BadInput | ConfigError) else FAILED
    if isinstance(found, OSError) and found.strerror:
        place = f"{found.filename}: " if found.filename else ""
        sys.stderr.write(f"error[error]: {logs.scrub(place)}{found.strerror}\n")
        return FAILED
    if isinstance(found, ModuleNotFoundError) and found.name:
        package = found.name.partition(".")[0]
        sys.stderr.write(
            f"error[error]: this command needs the package {package}, which is not installed here:"
            " install the package, or run the command where it is installed (of the images, only"
            " midstreamer-agent has the kernels, and none has data sets)\n"
        )
        return FAILED
    hint = "" if debug else "; repeat the command with --debug to see the traceback"
    sys.stderr.write(
        f"error[error]: unexpected {type(found).__name__}: {logs.scrub(str(found))}{hint}\n"
    )
    return FAILED


def foreseen(error: BaseException) -> BaseException:
    """Return the first MidstreamerError of an exception group, else the group's first error.

    An error that is no group is returned unchanged.
    """
    while isinstance(error, BaseExceptionGroup):
        error = (error.subgroup(MidstreamerError) or error).exceptions[0]
    return error


def _code_of(end: SystemExit) -> int:
    """Return the exit code of a SystemExit; if it holds a text instead, print the text."""
    if end.code is None or isinstance(end.code, int):
        return end.code or 0
    sys.stderr.write(f"{end.code}\n")
    return FAILED


def _pipe_closed() -> int:
    """Stop all output after the reader of our output has closed the pipe (`| head`)."""
    sys.stdout = sys.stderr = open("/dev/null", "w", encoding="ascii")  # noqa: SIM115
    return FAILED
