# SPDX-License-Identifier: Apache-2.0
"""The role that checks domains: gathers facts, runs over lists, renders results."""
