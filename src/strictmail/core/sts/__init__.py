# SPDX-License-Identifier: Apache-2.0
"""MTA-STS (RFC 8461)."""
