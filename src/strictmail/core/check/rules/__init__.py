# SPDX-License-Identifier: Apache-2.0
"""What there is to find, an area a module: each has its `KINDS` and `judge(facts)`."""
