# SPDX-License-Identifier: Apache-2.0
"""What is remembered across restarts: SQLite files in the state directory."""
