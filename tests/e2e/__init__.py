# SPDX-License-Identifier: Apache-2.0
"""strictmail between real daemons, in network namespaces (docs/testing.md)."""
