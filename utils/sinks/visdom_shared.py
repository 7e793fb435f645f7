"""Shared by the dashboard and the runs that send to it: names of environments, and the file of the token."""

import os
import platform
import re
import tempfile
from contextlib import suppress
from pathlib import Path

from utils.errors import StorageError

__all__ = ["env_name", "forget_token", "keep_token", "read_token"]

LOOPBACK = ("127.0.0.1", "localhost")


def env_name(text: str) -> str:
    """Make a text a name of an environment: letters, digits and ._- only, no dot in front, at most 100 of them.

    visdom makes a file and an address of it.
    """
    return re.sub(r"^\.|[^\w.-]", "_", text)[:100] or "main"


def keep_token(port: int, token: str) -> None:
    """Write the token of the dashboard at a port where only programs of this user can read it.

    Raises StorageError when it cannot be written.
    """
    path = _token_file(port)
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=path.parent)  # mode 0600 from the first moment on
        with open(descriptor, "w") as file:
            file.write(token)
        os.replace(temporary, path)
    except OSError as error:
        raise StorageError(f"{path}: the token cannot be written: {error.strerror}; set XDG_CACHE_HOME") from error


def read_token(host: str, port: int) -> str:
    """Return the token of this user's dashboard at a port of this machine, empty if it needs none."""
    if host not in LOOPBACK:
        return ""
    with suppress(OSError, UnicodeError):
        return _token_file(port).read_text().strip()
    return ""


def forget_token(port: int) -> None:
    """Remove the token of the dashboard at a port."""
    with suppress(OSError):
        _token_file(port).unlink()


def _token_file(port: int) -> Path:
    # Not below XDG_RUNTIME_DIR: a run that cron or ssh started does not have it.
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(cache, "dashboard-tokens", f"{platform.node()}-{port}")  # several machines may share a home
