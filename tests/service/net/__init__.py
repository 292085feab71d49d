# SPDX-License-Identifier: Apache-2.0
"""The network adapters against small servers on loopback that behave as told."""
