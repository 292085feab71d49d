# SPDX-License-Identifier: Apache-2.0
"""`strictmail` with a clock that is ahead: `tomorrow.py SECONDS COMMAND...`."""

from __future__ import annotations

import sys
from datetime import datetime, timedelta

from strictmail.runtime.clock import SystemClock

AHEAD = timedelta(seconds=float(sys.argv[1]))
USUAL = SystemClock.now


def ahead(clock: SystemClock) -> datetime:
    """The wall clock of a day that is to come."""
    return USUAL(clock) + AHEAD


if __name__ == "__main__":
    SystemClock.now = ahead  # type: ignore[assignment, method-assign]
    from strictmail.cli import main

    main(sys.argv[2:])
