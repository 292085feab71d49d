# SPDX-License-Identifier: Apache-2.0
"""`strictmail lab demo`: the whole story, offline, in a quarter of a minute.

A lab, a daemon, and where the machine allows it a real Postfix (`stage`): chosen domains of the
zoo are asked about and sent to, and one policy is attacked (`story`); what happens is held
against the zoo (`verdict`).
"""
