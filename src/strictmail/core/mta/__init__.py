# SPDX-License-Identifier: Apache-2.0
"""How MTAs ask and what they read: a dialect each."""
