# SPDX-License-Identifier: Apache-2.0
"""How often Python looks for rubbish that reference counting leaves: of what runs long, seldom."""

from __future__ import annotations

import gc


def collect_seldom() -> None:
    """Keep the collector away from what lives for ever; call it when all of that is there.

    What comes later is looked through every 50,000 new objects rather than every 700: a lookup or a
    check leaves few cycles behind, and with thousands of tasks alive each look costs milliseconds.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 50, 100)
