# SPDX-License-Identifier: Apache-2.0
"""The options that every command with a configuration has."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Concatenate, ParamSpec, TypeVar

import click

if TYPE_CHECKING:
    from collections.abc import Callable

    from strictmail.runtime.config import Config

P = ParamSpec("P")
R = TypeVar("R")


def configured(function: Callable[Concatenate[Config, P], R]) -> Callable[P, R]:
    """Give a command `--config` and `--state-directory`, and the Config as first argument.

    The ConfigError of a refused configuration ends the command with its exit code.
    """

    @click.option(
        "--config",
        "config_file",
        metavar="FILE",
        help="Configuration file. Else $STRICTMAIL_CONFIG, else /etc/strictmail/strictmail.toml "
        "if it exists, else the defaults.",
    )
    @click.option(
        "--state-directory", metavar="DIR", help="Where the state is kept, whatever the file says."
    )
    @functools.wraps(function)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        from strictmail.runtime.config import load_config

        file = kwargs.pop("config_file", None)
        state = kwargs.pop("state_directory", None)
        config = load_config(
            file if isinstance(file, str) else None,
            state_directory=state if isinstance(state, str) else None,
        )
        return function(config, *args, **kwargs)

    return wrapper
