# SPDX-License-Identifier: Apache-2.0
"""`python -m strictmail`."""

from strictmail.cli import main

if __name__ == "__main__":
    main()
