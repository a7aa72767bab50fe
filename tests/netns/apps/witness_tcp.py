"""A TCP origin for clients that leave: it answers a line, and notes in a file how each connection ended."""

import socket
import sys
import threading


def talk(peer: socket.socket, heard: bytearray) -> None:
    while part := peer.recv(65536):
        heard += part
        if heard.endswith(b"\n"):
            peer.sendall(b"taken\n")
            if b"/hold" not in heard:
                peer.sendall(b"some and whole" if b"/read" in heard else b"some")


def take(peer: socket.socket, notes: str) -> None:
    heard, ending = bytearray(), "end"
    with peer:
        try:
            talk(peer, heard)
        except ConnectionResetError:
            ending = "reset"
    with open(notes, "a", encoding="utf-8") as file:
        file.write(f"{heard.decode().translate({0: None}).strip()} {ending}\n")


def serve(port: str, notes: str) -> None:
    with socket.create_server(
        ("::", int(port)), family=socket.AF_INET6, dualstack_ipv6=True
    ) as listening:
        while True:
            peer, _ = listening.accept()
            threading.Thread(target=take, args=(peer, notes), daemon=True).start()


serve(*sys.argv[1:])
