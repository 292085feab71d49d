# SPDX-License-Identifier: Apache-2.0
"""Secrets in files: read only where nobody else can."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Final

from strictmail.core.errors import ConfigError

MAX_SECRET_BYTES: Final = 64 * 1024

_OF_OTHERS: Final = stat.S_IWGRP | stat.S_IRWXO


def read_secret(path: str, what: str) -> bytes:
    """Read a secret.

    Args:
        path: The file; its group may read it, since daemons drop the rights of root.
        what: Its name in messages.

    Raises:
        ConfigError: It cannot be read, is too large, or others could read or replace it.
    """
    try:
        with Path(path).open("rb") as stream:
            # The rights of what was opened, whatever the name points to a moment later.
            mode = os.fstat(stream.fileno()).st_mode
            data = stream.read(MAX_SECRET_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"{path}: {what} cannot be read: {error.strerror}") from None
    if mode & _OF_OTHERS:
        raise ConfigError(f"{path}: others can read or write {what}: chmod 0640 {path}")
    if len(data) > MAX_SECRET_BYTES:
        raise ConfigError(f"{path}: larger than {MAX_SECRET_BYTES} bytes: not {what}")
    return data
