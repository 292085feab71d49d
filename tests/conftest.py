# SPDX-License-Identifier: Apache-2.0
"""What all tests share: Hypothesis does not judge the machine's speed."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

settings.register_profile(
    "strictmail", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
settings.load_profile("strictmail")
