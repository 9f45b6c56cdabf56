"""Reads a password from a file, such as a Secret that Kubernetes mounts; never prints it."""

from __future__ import annotations

import os
from pathlib import Path

from midstreamer.domain.errors import ConfigError

BYTES_MAX = 1024
"""Largest size of a password file, in bytes."""


def read(path: Path, setting: str, *, characters_min: int = 1) -> str:
    """Return the password in a file, without the line break at its end.

    Raise ConfigError if the file has no usable password.  The message names ``setting``, the file
    and the fault, and quotes nothing from the file.
    """
    source = f"{setting} = {path}"
    try:
        with path.open("rb") as file:
            data = file.read(BYTES_MAX + 1)
        text = data.removesuffix(b"\n").removesuffix(b"\r").decode()
    except PermissionError as error:
        raise ConfigError(
            f"{source}: {error.strerror} for user {os.geteuid()}, group {os.getegid()}; give"
            " this user or this group read access to the file. In a pod, set fsGroup in"
            " podSecurityContext"
        ) from error
    except OSError as error:
        raise ConfigError(
            f"{source}: {error.strerror}; it must be a file that holds the password"
        ) from error
    except UnicodeDecodeError:
        raise ConfigError(f"{source}: it holds bytes that are not UTF-8 text") from None
    if len(data) > BYTES_MAX:
        raise ConfigError(f"{source}: it is longer than {BYTES_MAX} bytes, so it is no password")
    if not text.isprintable():
        raise ConfigError(f"{source}: it must be one line without control characters")
    if len(text) < characters_min:
        raise ConfigError(
            f"{source}: its password has {len(text)} characters; at least {characters_min} are"
            " needed; `openssl rand -base64 32` makes one"
        )
    return text
