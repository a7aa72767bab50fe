"""TCP services of a few lines each: greet first, reset, count until the end, tell addresses, send zeros."""

import hashlib
import socket
import struct
import sys
import threading
from collections.abc import Callable


def greet(caller: socket.socket) -> None:
    """Speak first, as SMTP does, then echo a line."""
    caller.sendall(b"220 ready\r\n")
    caller.sendall(b"250 " + caller.recv(100))


def reset(caller: socket.socket) -> None:
    """Send something, then break the connection."""
    caller.recv(100)
    caller.sendall(b"before the end")
    caller.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def digest(caller: socket.socket) -> None:
    """Answer after the caller's end with the digest of what it sent: half-close, or never."""
    seen = hashlib.sha256()
    while part := caller.recv(65536):
        seen.update(part)
    caller.sendall(seen.hexdigest().encode())


def zeros(caller: socket.socket) -> None:
    """Send as many zero bytes as are asked for."""
    left = int(caller.recv(100))
    while left:
        left -= caller.send(bytes(min(left, 65536)))


def tell(caller: socket.socket) -> None:
    """Say who is calling, and where."""
    caller.sendall(f"{caller.getpeername()[0]} {caller.getsockname()[0]}".encode())


def serve(port: int, service: Callable[[socket.socket], None]) -> None:
    def answer(caller: socket.socket) -> None:
        with caller:
            service(caller)

    with socket.create_server(
        ("::", port), family=socket.AF_INET6, dualstack_ipv6=True
    ) as listening:
        while True:
            caller, _ = listening.accept()
            threading.Thread(target=answer, args=(caller,), daemon=True).start()


SERVICES = {"greet": greet, "reset": reset, "digest": digest, "tell": tell, "zeros": zeros}
threads = []
for word in sys.argv[1:]:
    name, _, number = word.partition(":")
    threads.append(threading.Thread(target=serve, args=(int(number), SERVICES[name])))
    threads[-1].start()
