# SPDX-License-Identifier: Apache-2.0
"""knot and unbound in a world: signed zones below a private root, and a resolver that validates.

knot answers with authority on 127.0.0.2, unbound resolves on 127.0.0.1, both on port 53. Keys are
made by knot; the parents' DS records come from them, so that what unbound calls secure, insecure
or bogus is worked out from signatures and not from a table.
"""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Final

import dns.flags
import dns.message
import dns.query
import dns.rcode

from strictmail.lab.dnsdata import ZoneKind
from strictmail.lab.zones import WRONG_DS, Ds, zone_files

from .world import READY_SECONDS, wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from strictmail.lab.net import Lab
    from strictmail.lab.zones import ZoneFile

    from .world import Process, World

AUTHORITY: Final = "127.0.0.2"
RESOLVER: Final = "127.0.0.1"

SOA: Final = "@ 60 SOA ns.test. hostmaster.test. 1 3600 600 86400 5"
"""The last number is how long "there is none" may be kept: short, so that tests can change zones."""

KNOT_CONF: Final = """\
server:
  listen: {authority}@53
  rundir: {directory}
  pidfile: {directory}/knot.pid
  udp-workers: 1
  tcp-workers: 1
  background-workers: 1
log:
- target: stderr
  any: warning
database:
  storage: {directory}/db
policy:
- id: single
  algorithm: ecdsap256sha256
  single-type-signing: on
template:
- id: default
  storage: {directory}
  zonefile-load: whole
  zonefile-sync: -1
  journal-content: none
  semantic-checks: soft
zone:
"""

UNBOUND_CONF: Final = """\
server:
  interface: {resolver}
  do-daemonize: no
  username: ""
  chroot: ""
  pidfile: ""
  use-syslog: no
  logfile: ""
  val-log-level: 2
  ede: yes
  do-ip6: no
  num-threads: 1
  access-control: 127.0.0.0/8 allow
  do-not-query-localhost: no
  local-zone: "test." nodefault
  module-config: "validator iterator"
  root-hints: "{directory}/hints"
  trust-anchor-file: "{directory}/anchor"
  cache-max-negative-ttl: 5
remote-control:
  control-enable: no
"""


class NameServers:
    """knot with some zones, and unbound that trusts their root."""

    def __init__(self, world: World, lab: Lab, root: str = "bookworm") -> None:
        self._world = world
        self._lab = lab
        self._zones = zone_files(lab)
        self._dead = [name for name, kind in lab.data.zones.items() if kind is ZoneKind.DEAD]
        self._root = root
        self._directory = world.directory / "dns"
        self._ds_of: dict[str, str] = {}
        self._processes: list[Process] = []

    def start(self) -> None:
        """Make the keys, then serve the signed zones; returns when both servers answer."""
        world, directory = self._world, self._directory
        self._write_knot_conf()
        self._make_keys()
        world.write("dns/hints", f". 3600 NS ns.test.\nns.test. 3600 A {AUTHORITY}\n")
        world.write("dns/anchor", self._ds_of["."] + "\n")
        world.write("dns/unbound.conf", UNBOUND_CONF.format(resolver=RESOLVER, directory=directory))
        self._serve()

    def republish(self) -> None:
        """Serve what the lab's zones hold now; nothing is cached any more."""
        for process in self._processes:
            process.kill(signal.SIGTERM)
            process.wait()
        self._zones = zone_files(self._lab)
        self._serve()

    def _serve(self) -> None:
        for zone in self._zones:
            self._world.write(f"dns/{zone.file_name}", self._text(zone))
        knot: list[str | Path] = ["knotd", "-c", self._directory / "knot.conf"]
        unbound: list[str | Path] = ["unbound", "-d", "-c", self._directory / "unbound.conf"]
        authority = self._world.start("knotd", knot, root=self._root)
        self._processes = [authority]
        for zone in self._zones:
            self._wait_for(zone.name, AUTHORITY, secure=False)
        self._processes.append(self._world.start("unbound", unbound, root=self._root))
        self._wait_for(".", RESOLVER, secure=True)

    def ask(self, name: str, rdtype: str, server: str = RESOLVER) -> dns.message.Message:
        """Ask a question.

        Raises:
            OSError: No answer within a second, or an end of the connection.
            dns.exception.DNSException: The same, or an answer that is none.
        """
        query = dns.message.make_query(name, rdtype, want_dnssec=True)
        with self._world.connect((server, 53), 1.0) as connection:
            return dns.query.tcp(query, server, timeout=1.0, sock=connection)

    def _wait_for(self, name: str, server: str, *, secure: bool) -> None:
        def answers() -> bool:
            try:
                answer = self.ask(name, "SOA", server)
            except (OSError, EOFError, dns.exception.DNSException):
                return False
            validated = bool(answer.flags & dns.flags.AD) or not secure
            return answer.rcode() == dns.rcode.NOERROR and bool(answer.answer) and validated

        def seen() -> str:
            return "\n".join(process.tail() for process in self._processes)

        wait_until(answers, f"{server} to answer for {name}", seconds=READY_SECONDS, seen=seen)

    def _write_knot_conf(self) -> None:
        text = KNOT_CONF.format(authority=AUTHORITY, directory=self._directory)
        for zone in self._zones:
            text += f'- domain: "{zone.name}"\n  file: "{zone.file_name}"\n'
            if zone.signed:
                text += "  dnssec-signing: on\n  dnssec-policy: single\n"
        # Left out altogether, knot would answer with a referral to itself, which unbound takes for
        # an insecure "there is none"; a zone without contents is SERVFAIL.
        for name in self._dead:
            text += f'- domain: "{name}."\n  file: "nothing"\n'
        self._world.write("dns/knot.conf", text)
        (self._directory / "db").mkdir()

    def _make_keys(self) -> None:
        """Make a key for each signed zone, and its DS records."""
        keymgr = f"keymgr -c {self._directory}/knot.conf"
        for zone in (zone for zone in self._zones if zone.signed):
            generate = f"{keymgr} '{zone.name}' generate algorithm=13 ksk=yes zsk=yes >/dev/null"
            script = f"{generate} && {keymgr} '{zone.name}' ds"
            said = self._world.run(["sh", "-c", script], root=self._root)
            ds = "\n".join(line for line in said.splitlines() if " DS " in line)
            assert ds, said
            self._ds_of[zone.name] = ds

    def _text(self, zone: ZoneFile) -> str:
        lines = [f"$ORIGIN {zone.name}", "$TTL 60", SOA, "@ NS ns.test."]
        if zone.name == ".":
            lines.append(f"ns.test. A {AUTHORITY}")
        for child in self._zones:
            if child.is_main and child.parent == zone.name:
                lines.append(f"{child.name} NS ns.test.")
                if child.ds is Ds.WRONG:
                    lines.append(f"{child.name} {WRONG_DS}")
                elif child.ds is Ds.RIGHT:
                    lines.append(self._ds_of[child.name])
        return "\n".join(lines) + "\n" + zone.records
