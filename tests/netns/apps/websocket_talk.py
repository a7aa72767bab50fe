"""A WebSocket service of the `websockets` package, and a client that tries what the protocol has."""

import hashlib
import socket
import sys

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect
from websockets.sync.server import ServerConnection, serve

MEBIBYTE = bytes(range(256)) * 4096


def echo(connection: ServerConnection) -> None:
    for message in connection:
        if message == "leave":
            connection.close(4001, "as asked")
        else:
            connection.send(message)


def call(url: str) -> None:
    with connect(url, subprotocols=None) as connection:
        connection.send("grüße")
        print("text", connection.recv(10) == "grüße")
        connection.send([b"a", b"b", b"c"])
        print("fragments", connection.recv(10))
        connection.send(MEBIBYTE)
        print("bytes", hashlib.sha256(bytes(connection.recv(10))).hexdigest())  # type: ignore[arg-type]
        print("pong", connection.ping(b"are you there").wait(10))
        connection.send("leave")
        try:
            connection.recv(10)
        except ConnectionClosed as closed:
            print("closed", closed.rcvd)
    with connect(url, compression=None) as connection:
        connection.close(1001, "enough")
        print("left", connection.close_code)


if sys.argv[1] == "serve":
    listening = socket.create_server(
        ("::", int(sys.argv[2])), family=socket.AF_INET6, dualstack_ipv6=True
    )
    serve(echo, sock=listening).serve_forever()
else:
    call(sys.argv[2])
