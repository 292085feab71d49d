# SPDX-License-Identifier: Apache-2.0
"""The reporter: makes the reports of days that are over, and sends them (RFC 8460 §4, §5)."""
