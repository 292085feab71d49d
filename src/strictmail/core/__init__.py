# SPDX-License-Identifier: Apache-2.0
"""The protocol core: pure values and decisions."""
