# SPDX-License-Identifier: Apache-2.0
"""The roles that `strictmail serve` can run, each loaded only when it runs."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from strictmail.cli.roles.role import Host, Role

ROLES: Final[Mapping[str, tuple[str, str]]] = {
    "resolver": ("strictmail.cli.roles.resolver", "ResolverRole"),
    "collector": ("strictmail.cli.roles.collector", "CollectorRole"),
    "reporter": ("strictmail.cli.roles.reporter", "ReporterRole"),
}
"""Name -> module and class."""


def build_roles(names: Iterable[str], host: Host) -> list[Role]:
    """Make roles, in the order in which they start."""
    chosen = set(names)
    roles = []
    for name, (module, attribute) in ROLES.items():
        if name in chosen:
            roles.append(getattr(importlib.import_module(module), attribute)(host))
    return roles
