# SPDX-License-Identifier: Apache-2.0
"""parsedmarc behind a pipe: runs in the environment `.venv/reportreader`, apart from ours.

A line in is `{"mail": base64}` or `{"file": base64}`; a line out is what parsedmarc made of it, or
`{"error": text}`.
"""

from __future__ import annotations

import base64
import importlib
import json
import sys


def main() -> None:
    """Answer until standard input ends."""
    parsedmarc = importlib.import_module("parsedmarc")
    for line in sys.stdin:
        ((kind, text),) = json.loads(line).items()
        read = parsedmarc.parse_report_email if kind == "mail" else parsedmarc.parse_report_file
        try:
            found = read(base64.b64decode(text), offline=True, always_use_local_files=True)
        except Exception as error:  # noqa: BLE001 - told to whoever asked
            found = {"error": f"{type(error).__name__}: {error}"}
        sys.stdout.write(json.dumps(found, default=str) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
