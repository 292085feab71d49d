# SPDX-License-Identifier: Apache-2.0
"""The C programs beside this file: built into .cache/bench when their sources are newer."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from common import ROOT, fail

SOURCES = Path(__file__).resolve().parent
BUILD = ROOT / ".cache" / "bench"
LIBRARIES = {
    "loadgen": ["-lm"],
    "responder": [],
    "dnsd": [],
    "httpsd": ["-lssl", "-lcrypto"],
    "smtpd": ["-lssl", "-lcrypto"],
    "wire": [],
    "dgramsend": [],
    "reportmail": [],
}


def program(name: str) -> str:
    """The path of a program that `build` has built."""
    return str(BUILD / name)


def build() -> None:
    """Compile what is not up to date."""
    stale = [name for name in LIBRARIES if _is_stale(name)]
    if not stale:
        return
    _ensure_compiler()
    BUILD.mkdir(parents=True, exist_ok=True)
    for name in stale:
        fresh = BUILD / f"{name}.{os.getpid()}"  # two runs may build at once
        source = SOURCES / f"{name}.c"
        command = ["cc", "-O2", "-Wall", "-Wextra", "-o", str(fresh), str(source)]
        done = subprocess.run([*command, *LIBRARIES[name]], check=False)
        if done.returncode != 0:
            fail(f"{source.name} does not compile")
        fresh.replace(BUILD / name)


def _is_stale(name: str) -> bool:
    built = BUILD / name
    sources = [SOURCES / f"{name}.c", *SOURCES.glob("*.h")]
    return not built.exists() or built.stat().st_mtime < max(s.stat().st_mtime for s in sources)


def _ensure_compiler() -> None:
    if shutil.which("cc") and Path("/usr/include/openssl/ssl.h").exists():
        return
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        fail("needs a C compiler and OpenSSL's headers (Debian: gcc libc6-dev libssl-dev)")
    quiet = {
        "stdout": subprocess.DEVNULL,
        "env": {**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
    }
    packages = ["gcc", "libc6-dev", "libssl-dev"]
    subprocess.run(["apt-get", "update", "-qq"], check=True, **quiet)  # type: ignore[call-overload]
    subprocess.run(  # type: ignore[call-overload]
        ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *packages],
        check=True,
        **quiet,
    )
