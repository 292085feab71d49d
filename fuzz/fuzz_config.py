# SPDX-License-Identifier: Apache-2.0
"""Any text is a checked configuration or a list of printable problems with lines that exist.

What was accepted is shown as a text that means the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness import instrumented, run

with instrumented():
    from strictmail.runtime.config import check_config, diff_configs
    from strictmail.runtime.reference import render_effective, render_sample

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_MESSAGE_LENGTH = 2000
"""A message quotes at most a piece of what it is about."""

_SEEDS = (
    b"",
    b'[[listener]]\nname = "a"\nsocket = "unix:/run/s"\nmode = "0660"\ndane = true\n',
    b'[[listener]]\nname = "a"\nsocket = "inet:[::1]:1"\ndialect = "postfix-tlsrpt"\n',
    b'state_directory = "/x"\nroles = ["resolver"]\n[dns]\nservers = ["127.0.0.1", "::1"]\n',
    b'[policy]\nmax_body = "64KiB"\nallow_networks = ["10.0.0.0/8"]\n[http]\nlisten = ""\n',
    b'[cache]\nidle_after = 30\nidle_afer = "1x"\n[zzz]\n',
    b'a = """\n[b]\n"""\n"c".d = { e = [1, "]"] }\n',
)


def seeds() -> Iterator[bytes]:
    """Configurations of every shape, good and bad."""
    yield from _SEEDS
    lines = render_sample().splitlines()
    yield "\n".join(line.removeprefix("#") for line in lines if line[1:2] != " ").encode()


def check(data: bytes) -> None:
    """Check one text."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return
    config, problems = check_config(text, file="fuzz.toml")
    if config is None:
        assert problems
        for problem in problems:
            assert problem.message.isprintable(), problem
            assert len(problem.message) < MAX_MESSAGE_LENGTH, problem
            assert problem.line is None or 1 <= problem.line <= text.count("\n") + 1, problem
        return
    assert not problems
    again, refused = check_config(render_effective(config), file="again.toml")
    assert again is not None, refused
    assert diff_configs(config, again) == ()


if __name__ == "__main__":
    run(check, seeds())
