"""A client of a server that speaks first: it says nothing until it was greeted.

waits.py HOST PORT
"""

import socket
import sys

with socket.create_connection((sys.argv[1], int(sys.argv[2])), 10) as server:
    greeting = server.recv(100)
    server.sendall(b"hello")
    server.shutdown(socket.SHUT_WR)
    answer = b"".join(iter(lambda: server.recv(100), b""))
    print(greeting.decode().strip(), answer.decode().strip())
