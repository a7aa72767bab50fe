"""Ask one line on each of several ports; print what was answered, and how the connection ended, a line each."""

import socket
import sys


def ask(host: str, port: int) -> str:
    heard = b""
    with socket.create_connection((host, port)) as peer:
        try:
            peer.sendall(b"\0 how are you?\n")
            while part := peer.recv(4096):
                heard += part
        except (ConnectionResetError, BrokenPipeError):
            return f"{heard.decode()}, reset"
    return f"{heard.decode()}, end"


host, first, count = sys.argv[1:]
for number in range(int(count)):
    print(ask(host, int(first) + number))
