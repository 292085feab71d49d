# SPDX-License-Identifier: Apache-2.0
"""A small internet in one process, and the zoo that lives in it.

`strictmail.lab.net.Lab` runs it, `strictmail.lab.zoo.ZOO` is the table of its inhabitants,
`strictmail.lab.zones.write_zones` exports its DNS for real name servers. Only loopback addresses
are used, and everything ends with the `async with` block. Made for tests and for trying things
out: nothing here is hardened.
"""
