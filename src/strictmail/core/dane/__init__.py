# SPDX-License-Identifier: Apache-2.0
"""DANE for SMTP (RFC 7672)."""
