# SPDX-License-Identifier: Apache-2.0
"""TLS reporting (RFC 8460)."""
