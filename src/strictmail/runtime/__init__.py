# SPDX-License-Identifier: Apache-2.0
"""What a long-running process needs: configuration, logs, metrics, clock, lifecycle, HTTP."""
