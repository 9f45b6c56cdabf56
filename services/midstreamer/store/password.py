"""A password in a file, as Kubernetes mounts a Secret: read again for each use, and never shown."""

from __future__ import annotations

import os
from pathlib import Path

from midstreamer.domain.errors import ConfigError

BYTES_MAX = 1024


def read(path: Path, setting: str, *, characters_min: int = 1) -> str:
    """The password in a file, without the end of its line.

    ConfigError names ``setting``, the file and what is wrong with it, and quotes nothing of it.
    """
    told = f"{setting} = {path}"
    try:
        with path.open("rb") as file:
            data = file.read(BYTES_MAX + 1)
        text = data.removesuffix(b"\n").removesuffix(b"\r").decode()
    except PermissionError as error:
        raise ConfigError(
            f"{told}: {error.strerror} for user {os.geteuid()}, group {os.getegid()}; let them read"
            " it, in a pod by fsGroup (podSecurityContext)"
        ) from error
    except OSError as error:
        raise ConfigError(f"{told}: {error.strerror}; it holds the password") from error
    except UnicodeDecodeError:
        raise ConfigError(f"{told}: it holds bytes that are not UTF-8 text") from None
    if len(data) > BYTES_MAX:
        raise ConfigError(f"{told}: it is longer than {BYTES_MAX} bytes, so it is no password")
    if not text.isprintable():
        raise ConfigError(f"{told}: it must be one line without control characters")
    if len(text) < characters_min:
        raise ConfigError(
            f"{told}: its password has {len(text)} characters; at least {characters_min} are"
            " needed; `openssl rand -base64 32` makes one"
        )
    return text
