# SPDX-License-Identifier: Apache-2.0
"""The checker's judgement: facts about a domain in, findings and verdicts out. Pure."""
