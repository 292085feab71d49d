# SPDX-License-Identifier: Apache-2.0
"""An SMTP server that takes everything: `reportsink.py COUNT`, on 127.0.0.1:25.

It writes `ready`, and `all` once it has taken so many messages; each needs a report inside.
"""

from __future__ import annotations

import asyncio
import sys

REPORT_TYPE = b"application/tlsrpt+gzip"


class Sink:
    def __init__(self, wanted: int) -> None:
        self.wanted = wanted
        self.taken = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 sink.test ESMTP\r\n")
        try:
            while line := await reader.readline():
                verb = line[:4].upper()
                if verb == b"DATA":
                    writer.write(b"354 go on\r\n")
                    self.take(await reader.readuntil(b"\r\n.\r\n"))
                elif verb == b"EHLO":
                    writer.write(b"250-sink.test\r\n250-PIPELINING\r\n250-SIZE 10000000\r\n")
                writer.write(b"221 bye\r\n" if verb == b"QUIT" else b"250 ok\r\n")
                if verb == b"QUIT":
                    break
            writer.close()
        except (ConnectionError, asyncio.IncompleteReadError):
            writer.close()

    def take(self, message: bytes) -> None:
        if REPORT_TYPE not in message:
            print("a message without a report", flush=True)
            return
        self.taken += 1
        if self.taken == self.wanted:
            print("all", flush=True)


async def main() -> None:
    sink = Sink(int(sys.argv[1]))
    server = await asyncio.start_server(sink.serve, "127.0.0.1", 25, limit=2**24, backlog=1024)
    print("ready", flush=True)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
