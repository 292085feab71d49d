# SPDX-License-Identifier: Apache-2.0
"""A kind of finding: what is the same about it for every domain."""

from __future__ import annotations

from dataclasses import dataclass

from strictmail.core.check.result import Area, Evidence, Finding, Severity


@dataclass(frozen=True, slots=True)
class Kind:
    """One row of the catalogue (`strictmail.core.check.catalogue`).

    Attributes:
        id: Stable: the area's letters and three digits. Never used again for anything else.
        severity: Its usual severity.
        title: In a few words.
        source: Section, such as `RFC 8461 §3.1`.
        meaning: For the reference: what it means for mail, in one or two sentences.
        requirement: Id of the requirement catalogue, or "".
        fix: What to do, where that is the same for every domain.
    """

    id: str
    severity: Severity
    title: str
    source: str
    meaning: str
    requirement: str = ""
    fix: str = ""

    @property
    def area(self) -> Area:
        """From the letters of the id."""
        return Area(self.id.rstrip("0123456789"))

    def found(
        self,
        subject: str,
        sentence: str,
        *evidence: Evidence,
        fix: str = "",
        paste: str = "",
        severity: Severity | None = None,
    ) -> Finding:
        """Make a finding of this kind.

        Args:
            subject: What it is about.
            sentence: What was found. Foreign text in it goes through `tagrecord.quote`.
            evidence: What it rests on.
            fix: What to do, if it differs from the kind's.
            paste: What to put in place.
            severity: If it differs from the usual one.
        """
        return Finding(
            id=self.id,
            area=self.area,
            severity=severity or self.severity,
            subject=subject,
            title=self.title,
            sentence=sentence,
            source=self.source,
            requirement=self.requirement,
            evidence=evidence,
            fix=fix or self.fix,
            paste=paste,
        )
