# SPDX-License-Identifier: Apache-2.0
"""What several roles need to find out, over ports."""
