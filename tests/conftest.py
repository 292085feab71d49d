# SPDX-License-Identifier: Apache-2.0
"""What all tests share: Hypothesis runs seeded, and does not judge the machine's speed.

With STRICTMAIL_SOAK_EXAMPLES set (scripts/soak) the examples are drawn anew. The profile `fast`
(make test-fast) tries a fifth of them.
"""

from __future__ import annotations

import os
import signal

from hypothesis import HealthCheck, settings

settings.register_profile(
    "strictmail",
    deadline=None,
    derandomize="STRICTMAIL_SOAK_EXAMPLES" not in os.environ,
    suppress_health_check=[HealthCheck.too_slow],
    print_blob=True,
)
settings.register_profile("fast", settings.get_profile("strictmail"), max_examples=20)
settings.load_profile("strictmail")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # As behind `&` in a script; programs that are started would inherit it, and never stop.
    signal.signal(signal.SIGINT, signal.default_int_handler)
