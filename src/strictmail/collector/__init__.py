# SPDX-License-Identifier: Apache-2.0
"""The collector role: sessions from MTAs, counted by day, domain and policy."""
