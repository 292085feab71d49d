# SPDX-License-Identifier: Apache-2.0
"""What all tests share: Hypothesis does not judge the machine's speed."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("strictmail", deadline=None, print_blob=True)
settings.load_profile("strictmail")
