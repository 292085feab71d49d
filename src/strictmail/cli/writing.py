# SPDX-License-Identifier: Apache-2.0
"""Files that commands write: whole or not at all, since others may be reading them."""

from __future__ import annotations

import contextlib
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextlib.contextmanager
def whole_file(name: str) -> Iterator[TextIO]:
    """Give a text file in UTF-8 that takes the place of an earlier one at the end of the block.

    Args:
        name: A file, new or not, or a link to one. A device or a pipe is written to as it is.

    Raises:
        OSError: It cannot be written; what was there before is there still.
    """
    path = Path(name)
    if path.exists() and not path.is_file():
        # A file put in the place of /dev/null would break other programs.
        with path.open("w", encoding="utf-8") as file:
            yield file
        return
    path = path.resolve()
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        # Only ever a new file: in a directory like /tmp, others may have put a link there.
        with partial.open("x", encoding="utf-8") as file:
            yield file
        partial.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            partial.unlink()
        raise
