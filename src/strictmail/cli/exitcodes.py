# SPDX-License-Identifier: Apache-2.0
"""How commands end: one number for each way, after sysexits.h, and which error ends in which."""

from __future__ import annotations

import enum
from typing import Final

from strictmail.core import errors


class ExitCode(enum.IntEnum):
    """Exit codes of every command; MEANINGS says what each means."""

    OK = 0
    FAILURE = 1
    USAGE = 2
    DATAERR = 65
    UNAVAILABLE = 69
    SOFTWARE = 70
    CANTCREAT = 73
    TEMPFAIL = 75
    CONFIG = 78
    INTERRUPTED = 130
    PIPE = 141


MEANINGS: Final[dict[ExitCode, str]] = {
    ExitCode.OK: "Done; where a command judges something: it is good.",
    ExitCode.FAILURE: "Done, and the answer is no: something failed, is missing or is refused.",
    ExitCode.USAGE: "The command line is not understood.",
    ExitCode.DATAERR: "The input is wrong: not a domain, not a policy, not a record.",
    ExitCode.UNAVAILABLE: "The daemon or a host that is needed does not answer.",
    ExitCode.SOFTWARE: "A fault of strictmail itself; please report it.",
    ExitCode.CANTCREAT: "A file cannot be written: the state directory, a backup, an export.",
    ExitCode.TEMPFAIL: "Could not be found out now; later it may.",
    ExitCode.CONFIG: "The configuration, or a file of another version, is refused.",
    ExitCode.INTERRUPTED: "Stopped from the keyboard.",
    ExitCode.PIPE: "Whoever read the output went away.",
}
"""The same in words, for the reference."""


_BY_ERROR: Final[tuple[tuple[type[errors.StrictmailError], ExitCode], ...]] = (
    # The first class that fits counts: sub-classes stand before their base.
    (errors.SyntaxFault, ExitCode.DATAERR),
    (errors.EncodingError, ExitCode.DATAERR),
    (errors.SchemaTooNewError, ExitCode.CONFIG),
    (errors.StoreError, ExitCode.CANTCREAT),
    (errors.ConfigError, ExitCode.CONFIG),
    (errors.UnreachableError, ExitCode.UNAVAILABLE),
    (errors.StrictmailError, ExitCode.FAILURE),
)


def exit_code_for(error: errors.StrictmailError) -> ExitCode:
    """The exit code that an error ends in."""
    return next(code for kind, code in _BY_ERROR if isinstance(error, kind))
