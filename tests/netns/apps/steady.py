"""Ask an HTTP/1.1 server without pause over many connections, and account for every request.

    steady.py HOST PORT CONNECTIONS REQUESTS

A connection that says it closes is followed by another, as clients do it. What ended is told in one line of JSON:
how many requests were answered, which were `lost` (sent, and not answered whole) and how many connections were refused
before anything was sent: a client may take those elsewhere.
"""

import json
import sys
import time
from dataclasses import asdict, dataclass, field
from functools import partial

import trio

BODY = 1000
REQUEST = b"GET /%d HTTP/1.1\r\nHost: steady\r\n\r\n" % BODY


@dataclass
class Account:
    """What became of the requests. What changes: all of it."""

    left: int
    answered: int = 0
    refused: int = 0
    slowest: float = 0.0
    lost: list[str] = field(default_factory=list)


class Refused(Exception):
    """Nobody takes connections any more."""


async def ask(stream: trio.SocketStream) -> bool:
    """Make one request, and say whether the connection may carry another; EOFError for a cut answer."""
    await stream.send_all(REQUEST)
    data = b""
    while b"\r\n\r\n" not in data:
        part = await stream.receive_some(65536)
        if not part:
            raise EOFError(f"after {len(data)} bytes of the head")
        data += part
    head, _, body = data.partition(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 200 "):
        raise EOFError(head.split(b"\r\n")[0].decode())
    size = len(body)
    while size < BODY:
        part = await stream.receive_some(65536)
        if not part:
            raise EOFError(f"after {size} bytes of the body")
        size += len(part)
    return b"connection: close" not in head.lower()


async def connect(host: str, port: int) -> trio.SocketStream:
    """Open a connection."""
    try:
        return await trio.open_tcp_stream(host, port)
    except OSError as error:
        raise Refused from error


async def client(host: str, port: int, account: Account) -> None:
    """Ask until there is nothing left to ask, or nobody to ask."""
    while account.left > 0:
        try:
            stream = await connect(host, port)
        except Refused:
            account.refused += 1
            return
        async with stream:
            await converse(stream, account)


async def converse(stream: trio.SocketStream, account: Account) -> None:
    """Ask on one connection for as long as it may be asked on."""
    goes_on = True
    while goes_on and account.left > 0:
        account.left -= 1
        began = time.monotonic()
        try:
            goes_on = await ask(stream)
        except (EOFError, trio.BrokenResourceError) as error:
            account.lost.append(f"{error} {error.__cause__ or ''}".strip())
            return
        account.answered += 1
        account.slowest = max(account.slowest, time.monotonic() - began)


async def main(host: str, port: int, connections: int, requests: int) -> None:
    """Run all clients and print the account."""
    account = Account(requests)
    async with trio.open_nursery() as nursery:
        for _ in range(connections):
            nursery.start_soon(partial(client, host, port, account))
    print(json.dumps(asdict(account)))


HOST, (PORT, CONNECTIONS, REQUESTS) = sys.argv[1], map(int, sys.argv[2:])
trio.run(main, HOST, PORT, CONNECTIONS, REQUESTS)
