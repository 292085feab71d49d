# SPDX-License-Identifier: Apache-2.0
"""Adapters: one outside system per file."""
