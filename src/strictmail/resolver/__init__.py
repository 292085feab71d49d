# SPDX-License-Identifier: Apache-2.0
"""The resolver role: it answers a sending MTA with what a destination demands."""
